"""What a catalogue keeps of what it is told."""

from pgproxy.routing.catalogue import Catalogue


def filled() -> Catalogue:
    made = Catalogue()
    made.function("public", "total", 1, 3, volatile=False, takes_row=False)
    made.runs("function", "public", "total", "SELECT 1")
    made.relation("app", "quick", "unlogged", "")
    return made


def test_equal_contents_have_equal_digests() -> None:
    assert filled().digest == filled().digest
    other = filled()
    other.function("public", "total", 1, 3, volatile=False, takes_row=False)
    assert other.digest != filled().digest


def test_another_body_is_another_catalogue() -> None:
    one, other = filled(), filled()
    one.runs("operator", "public", "+", "public.f(")
    other.runs("operator", "public", "+", "public.g(")
    assert one.digest != other.digest


def test_all_bodies_of_a_name_are_one_text() -> None:
    made = filled()
    made.runs("function", "public", "total", "SELECT 2")
    assert made.body("function", "public", "total") == "SELECT 1 SELECT 2"
    assert made.body("function", "app", "total") == made.body("cast", "public", "total") == ""


def test_schemas_are_those_with_something_to_find() -> None:
    made = filled()
    made.runs("cast", "pg_catalog", "int4", "public.f(")
    assert made.schemas() == {"public", "app"}
    assert made.count == 4


def test_a_roles_own_search_path_goes_before_everybodys() -> None:
    made = filled()
    assert made.default_path("one") is None
    made.search_path("", "public")
    made.search_path("one", "app")
    assert (made.default_path("one"), made.default_path("two")) == ("app", "public")
