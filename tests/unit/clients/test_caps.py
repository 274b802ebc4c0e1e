"""How many clients there may be: in all, of each database, of each user."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.clients.caps import ClientCaps, Named, Place
from pgproxy.errors import PgError

NAMES = st.sampled_from(["a", "b", "c"])


def caps(total: int = 100, database: int = 0, user: int = 0) -> ClientCaps:
    return ClientCaps(total, Named("database", database, {"b": 1}), Named("user", user, {"c": 0}))


def admit(counted: ClientCaps, database: str = "a", user: str = "a") -> Place:
    place = counted.enter()
    try:
        place.identified(database, user)
    except PgError:
        place.leave()
        raise
    return place


def test_the_total_counts_from_the_first_packet_on() -> None:
    counted = caps(total=1)
    place = counted.enter()
    with pytest.raises(PgError) as refused:
        counted.enter()
    assert (refused.value.sqlstate, refused.value.severity) == ("53300", "FATAL")
    assert refused.value.detail.startswith("listen.max_clients is 1,")
    assert refused.value.hint
    place.leave()
    place.leave()
    assert counted.total.used == 0
    counted.enter()
    assert counted.refused == {"total": 1, "database": 0, "user": 0}


def test_databases_and_users_count_once_it_is_known_who_it_is() -> None:
    counted = caps(database=2, user=1)
    counted.enter()
    admit(counted)
    assert (counted.total.used, counted.databases.count("a"), counted.users.count("a")) == (2, 1, 1)
    with pytest.raises(PgError, match='too many connections for role "a"') as refused:
        admit(counted)
    assert refused.value.detail.startswith("limits.max_clients_per_user is 1,")
    admit(counted, "a", "b")
    with pytest.raises(PgError, match='too many connections for database "a"') as refused:
        admit(counted, "a", "c")
    assert refused.value.detail.startswith("limits.max_clients_per_database is 2,")
    # Who is refused is counted nowhere.
    assert (counted.total.used, counted.databases.count("a")) == (3, 2)
    assert counted.users.count("c") == 0
    assert counted.refused == {"total": 0, "database": 1, "user": 1}


def test_one_with_a_cap_of_its_own() -> None:
    counted = caps(database=5, user=1)
    admit(counted, "b", "c")
    with pytest.raises(PgError) as refused:
        admit(counted, "b", "c")
    assert refused.value.detail.startswith("limits.databases.b.max_clients is 1,")
    admit(counted, "a", "c")  # whose own is none
    assert [counted.databases.cap(name) for name in "ab"] == [5, 1]
    assert [counted.users.cap(name) for name in "ac"] == [1, 0]


def test_names_are_forgotten_with_their_last_client() -> None:
    counted = caps()
    places = [admit(counted, f"d{number}", f"u{number}") for number in range(50)]
    for place in places:
        place.leave()
    assert counted.databases.entries == counted.users.entries == 0


@given(st.lists(st.tuples(NAMES, NAMES, st.integers(0, 20)), max_size=60))
def test_a_cap_is_never_exceeded_and_what_is_taken_is_given_back(
    steps: list[tuple[str, str, int]],
) -> None:
    counted = caps(total=6, database=3, user=2)
    places: list[Place] = []
    for database, user, leaver in steps:
        if leaver < len(places):
            places.pop(leaver).leave()
        try:
            places.append(admit(counted, database, user))
        except PgError:
            held = [counted.databases.count(database), counted.users.count(user)]
            assert counted.total.used == 6 or held[0] in (1, 3) or held[1] == 2
        assert counted.total.used == len(places) <= 6
        assert counted.databases.count("b") <= 1
        assert max(counted.databases.count(name) for name in "ac") <= 3
        assert max(counted.users.count(name) for name in "ab") <= 2
    for place in places:
        place.leave()
    assert counted.total.used == counted.databases.entries == counted.users.entries == 0
