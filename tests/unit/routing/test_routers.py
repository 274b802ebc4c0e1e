"""Which router decides for which session."""

import pytest

from pgproxy.routing.catalogue import Catalogue
from pgproxy.routing.decision import PRIMARY, REPLICA
from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.namespace import path_names
from pgproxy.routing.reasons import Reason
from pgproxy.routing.router import Memory
from pgproxy.routing.routers import MAX_PATHS, Routers


def catalogue(*schemas: str, volatile: bool = False) -> Catalogue:
    made = Catalogue()
    for schema in schemas:
        made.function(schema, "f", 0, 0, volatile=volatile, takes_row=False)
    made.search_path("", '"$user", public')
    return made


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ('""', [""]),
        ('"$user", public', ["$user", "public"]),
        ("  A ,B,c  ", ["a", "b", "c"]),
        ('"A""b", "x,y" ,Z', ['A"b', "x,y", "z"]),
        ("ÄB", ["Äb"]),
        ('"open', ["open"]),
    ],
)
def test_a_search_path_is_read_as_postgresql_does(text: str, names: list[str]) -> None:
    assert path_names(text) == names


def test_without_a_catalogue_one_router_decides_for_all() -> None:
    routers = Routers(Memory(), FunctionLists()).of("shop")
    assert routers.choose(None, "alice") is routers.choose("x", "bob") is routers.any_path()
    assert routers.any_path().decide(b"SELECT f()").target == PRIMARY
    routers.doubt()
    assert not routers.in_doubt


def test_schemas_in_which_nothing_decides_make_no_difference() -> None:
    routers = Routers(Memory(), FunctionLists()).of("shop")
    routers.take(catalogue("public", "alice"))
    public = routers.choose("public", "bob")
    assert public.decide(b"SELECT f()").target == REPLICA
    assert routers.choose("tenant_1, public", "bob") is public
    assert routers.choose(None, "bob") is public
    assert routers.choose(None, "alice") is not public
    assert routers.choose("tenant_1", "bob").decide(b"SELECT f()").target == PRIMARY


def test_a_newer_catalogue_decides_anew_and_an_equal_one_does_not() -> None:
    routers = Routers(Memory(), FunctionLists()).of("shop")
    routers.take(catalogue("public"))
    before, generation = routers.choose("public", "bob"), routers.generation
    routers.doubt()
    assert routers.in_doubt
    routers.take(catalogue("public"))
    assert not routers.in_doubt
    assert routers.choose("public", "bob") is before
    assert routers.generation == generation
    routers.take(catalogue("public", volatile=True))
    assert routers.generation > generation
    after = routers.choose("public", "bob")
    assert after.epoch != before.epoch
    assert after.decide(b"SELECT f()").target == PRIMARY
    routers.take(None)
    assert routers.choose("public", "bob").decide(b"SELECT f()").target == PRIMARY


def test_a_path_that_is_not_known_may_be_any() -> None:
    routers = Routers(Memory(), FunctionLists()).of("shop")
    made = catalogue("public")
    made.search_path("", "")
    made.search_path("carol", "public")
    routers.take(made)
    assert routers.choose(None, "bob") is routers.any_path()
    assert routers.choose(None, "carol") is routers.choose("public", "bob")


def test_the_number_of_routers_is_bounded() -> None:
    memory = Memory()
    routers = Routers(memory, FunctionLists()).of("shop")
    routers.take(catalogue(*[f"s{number}" for number in range(2 * MAX_PATHS)]))
    chosen = [routers.choose(f"s{number}", "bob") for number in range(2 * MAX_PATHS)]
    assert len(set(map(id, chosen))) == MAX_PATHS + 1
    assert chosen[-1] is routers.any_path()


def test_a_database_without_sessions_is_forgotten() -> None:
    memory = Memory(cache_size=100)
    routers = Routers(memory, FunctionLists())
    shop = routers.of("shop")
    shop.take(catalogue("public"))
    shop.choose("public", "bob").decide(b"SELECT 1")
    assert len(memory) == 1
    routers.forget("shop")
    assert len(memory) == 0
    assert routers.of("shop") is not shop


def test_what_was_learned_holds_until_the_schema_changes() -> None:
    routers = Routers(Memory(), FunctionLists()).of("shop")
    routers.any_path().learn(b"SELECT a FROM v WHERE b = 1")
    routers.take(catalogue("public"))
    found = routers.choose("public", "bob").decide(b"SELECT a FROM v WHERE b = 2")
    assert found.reason is Reason.LEARNED
    routers.take(catalogue("public", volatile=True))
    assert routers.choose("public", "bob").decide(b"SELECT a FROM v WHERE b = 2").target == REPLICA
