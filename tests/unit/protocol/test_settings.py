"""Settings: what a session has set, and how a server connection gets it."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.frames import write
from pgproxy.protocol.settings import (
    AUTHORITY,
    MAX_BYTES,
    MAX_SETTINGS,
    NOTHING_SET,
    TIMEOUTS,
    Effect,
    Origin,
    Settings,
    SettingsTable,
    answers,
    ask,
    changed,
    difference,
    is_in_view,
    is_too_much,
    literal,
    names_set,
    read_row,
    reset,
    restore,
    set_back,
    setting_name,
)

names = st.sampled_from(
    ["work_mem", "timezone", "search_path", "app.a", "app.b", "statement_timeout", *AUTHORITY]
)
values = st.dictionaries(names, st.text(alphabet="ab'\\é", max_size=3), max_size=6)


def text(message: bytes) -> str:
    assert message[:1] == b"Q"
    assert message[-1] == 0
    return message[5:-1].decode("ascii")


def row(*columns: bytes | None) -> bytes:
    return write.data_row(list(columns))[5:]


def test_names_are_compared_as_postgresql_does() -> None:
    assert setting_name("Work_Mem") == "work_mem"
    assert setting_name("App.ÜBER") == "app.Über"
    assert setting_name("SORT_MEM") == "work_mem"
    assert setting_name("vacuum_mem") == "maintenance_work_mem"


def test_what_changes_with_a_setting() -> None:
    assert names_set("work_mem") == ("work_mem",)
    assert names_set("session_authorization") == ("session_authorization", "role")
    assert names_set("transaction_isolation") == ()


@pytest.mark.parametrize(
    ("value", "sql"),
    [
        ("", b"''"),
        ("it's", b"'it''s'"),
        ("a\\b'", rb"E'a\\b'''"),
        ("süß", rb"E's\u00fc\u00df'"),
        ("\U0001f600", rb"E'\U0001f600'"),
    ],
)
def test_a_constant_means_the_same_everywhere(value: str, sql: bytes) -> None:
    assert literal(value) == sql


@given(have=values, want=values)
def test_the_difference_leads_from_one_to_the_other(
    have: dict[str, str], want: dict[str, str]
) -> None:
    state = have.copy()
    changes = difference(Settings(have), Settings(want))
    for name, value in changes:
        if value is None:
            state.pop(name, None)
        else:
            state[name] = value
    assert state == want
    assert bool(changes) == (have != want)


def test_a_role_is_set_after_the_authorization_that_takes_it_back() -> None:
    before = Settings({"role": "x", "work_mem": "1MB"})
    after = changed(before, {"session_authorization": "y", "role": "x"})
    names = [name for name, _ in difference(NOTHING_SET, Settings(after))]
    assert names == ["work_mem", "session_authorization", "role"]


@given(have=values, want=values)
def test_authority_is_taken_back_before_anything_is_set(
    have: dict[str, str], want: dict[str, str]
) -> None:
    changes = difference(Settings(have), Settings(want))
    if changes and any(name in have for name in AUTHORITY):
        assert changes[0][0] in AUTHORITY
        assert changes[0][1] is None


def test_what_restores_is_a_block_of_its_own() -> None:
    message, first = restore(Settings({"timezone": "UTC"}), Settings({"app.user": "it's"}))
    assert text(message) == (
        "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY; SET LOCAL exit_on_error = on; "
        "SELECT pg_catalog.set_config('timezone', NULL, false), "
        "pg_catalog.set_config('app.user', 'it''s', false); COMMIT"
    )
    assert first == b""
    assert restore(NOTHING_SET, NOTHING_SET) == (b"", b"")
    alone, _ = restore(NOTHING_SET, Settings({"app.user": "x"}), or_end=False)
    assert "exit_on_error" not in text(alone)


def test_a_timeout_does_not_end_its_own_restoring() -> None:
    have = Settings({"statement_timeout": "1ms", "work_mem": "1MB"})
    want = Settings({"statement_timeout": "2ms", "work_mem": "2MB"})
    message, first = restore(have, want)
    assert text(first) == "SET statement_timeout = 0"
    assert text(message).index("work_mem") < text(message).index("'2ms'")
    # Also where it is to be the same: the restoring takes it back.
    message, _ = restore(have, Settings({"statement_timeout": "1ms"}))
    assert "'1ms'" in text(message)


def test_what_a_session_is_asked() -> None:
    assert text(ask(["work_mem"], are_set=True)) == (
        "SELECT pg_catalog.current_setting('work_mem', true)"
    )
    assert "pg_settings" in text(ask(["work_mem"], are_set=False))
    assert text(ask(["role"], are_set=True, in_block=True)).startswith("BEGIN ISOLATION LEVEL")
    # It has no line for these.
    assert "pg_settings" not in text(ask(["app.a", "role"], are_set=False))
    assert [is_in_view(name) for name in ("work_mem", "app.a", "role")] == [True, False, False]


def test_what_it_answers() -> None:
    asked = ["work_mem", "timezone", "app.a"]
    assert answers(asked, ["1MB", "UTC", None]) == {
        "work_mem": "1MB",
        "timezone": "UTC",
        "app.a": None,
    }
    assert answers(asked, ["1MB", "UTC", "x", "timezone"]) == {
        "work_mem": None,
        "timezone": "UTC",
        "app.a": "x",
    }
    assert answers(asked, ["1MB", "UTC", "", None])["timezone"] is None
    with pytest.raises(ValueError, match="for 3 settings"):
        answers(asked, [])


def test_values_are_in_the_clients_encoding() -> None:
    assert read_row(row(b"a", None, "ü".encode()), "UTF8") == ["a", None, "ü"]
    assert read_row(row("ü".encode("latin-1")), "LATIN1") == ["ü"]
    assert read_row(row("€".encode("cp1252")), "WIN1252") == ["€"]
    assert read_row(row(b"a"), "SQL_ASCII") == ["a"]
    for encoding in ("SQL_ASCII", "UTF8", "MULE_INTERNAL"):
        with pytest.raises(ValueError, match=r"."):
            read_row(row(b"\xff"), encoding)


@pytest.mark.parametrize(
    "encoding",
    "UTF8 EUC_JP EUC_KR EUC_CN KOI8R KOI8U LATIN1 LATIN10 ISO_8859_5 WIN866 WIN1258".split(),
)
def test_encodings_that_are_read(encoding: str) -> None:
    python = {"EUC_CN": "gb2312", "KOI8R": "koi8-r", "KOI8U": "koi8-u"}.get(encoding, encoding)
    codec = python.replace("WIN", "cp")
    assert codecs.lookup(codec)
    for letter in "üяаあ가啊":
        try:
            raw = letter.encode(codec)
        except UnicodeEncodeError:
            continue
        assert read_row(row(raw), encoding) == [letter]
        return
    raise AssertionError(f"no letter for {encoding}")


def test_a_role_stands_behind_what_was_set_before_it() -> None:
    before = Settings({"role": "a", "work_mem": "1MB"})
    assert list(changed(before, {"role": "b"})) == ["work_mem", "role"]
    assert list(changed(before, {"role": "a"})) == ["role", "work_mem"]
    assert changed(before, {"role": None, "x": None}) == {"work_mem": "1MB"}


def test_what_is_perhaps_not_set_again_stands_where_it_was_allowed_to_be_set() -> None:
    before = Settings({"deadlock_timeout": "1000", "role": "a"})
    assert list(changed(before, {"deadlock_timeout": "1s"})) == ["role", "deadlock_timeout"]
    after = changed(before, {"deadlock_timeout": "1s", "work_mem": "1MB"}, are_set=False)
    assert list(after.items()) == [("deadlock_timeout", "1s"), ("role", "a"), ("work_mem", "1MB")]


@given(have=values, want=values)
def test_a_superuser_gives_its_authority_away_last(
    have: dict[str, str], want: dict[str, str]
) -> None:
    changes = difference(Settings(have), Settings(want), as_superuser=True)
    assert sorted(map(str, changes)) == sorted(map(str, difference(Settings(have), Settings(want))))
    names = [name for name, value in changes if value is not None and name not in TIMEOUTS]
    authority = [name for name in names if name in AUTHORITY]
    assert names[len(names) - len(authority) :] == authority


def test_a_session_is_set_back_to_how_it_began() -> None:
    base = Settings({"timezone": "UTC"})
    now = Settings({"timezone": "CET", "work_mem": "1MB"})
    assert reset(now, ["timezone", "work_mem"], base) == {"timezone": "UTC"}
    assert reset(now, ["timezone"], NOTHING_SET) == {"work_mem": "1MB"}
    assert set_back(["work_mem"], base) == b""
    assert text(set_back(["timezone", "work_mem"], base)) == (
        "SELECT CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_settings"
        " WHERE source OPERATOR(pg_catalog.<>) 'session'"
        " AND pg_catalog.lower(name) OPERATOR(pg_catalog.=) 'timezone')"
        " THEN pg_catalog.set_config('timezone', 'UTC', false) END"
    )
    base = Settings({"app.user": "a", "role": "b", "session_authorization": "c"})
    message = text(set_back(list(base.values), base))
    assert "current_setting('app.user', true) OPERATOR(pg_catalog.=) ''" in message
    assert "current_setting('role', true) OPERATOR(pg_catalog.=) 'none'" in message
    assert "WHEN true THEN" in message


def test_equal_settings_are_one_object() -> None:
    table = SettingsTable(limit=2)
    first = table.get({"a": "1"})
    assert table.get({"a": "1"}) is first
    assert table.get({}) is NOTHING_SET
    table.get({"a": "2"})
    table.get({"a": "3"})
    assert len(table) == 1
    # It is forgotten, which only costs a restoring of nothing.
    assert table.get({"a": "1"}).values == first.values


def test_long_settings_are_forgotten_sooner() -> None:
    table = SettingsTable(room=100)
    for number in range(9):
        table.get({"app.x": f"{number}" + "x" * 29})
        assert len(table) in (1, 2)
    # Also one that is longer than all the room.
    long = table.get({"app.x": "x" * 200})
    assert table.get({"app.x": "x" * 200}) is long


def test_there_is_a_limit_to_what_is_taken_along() -> None:
    assert not is_too_much({"a": "b"})
    assert is_too_much({str(number): "" for number in range(MAX_SETTINGS + 1)})
    assert is_too_much({"a": "b" * MAX_BYTES})


def test_they_can_be_read_in_a_log() -> None:
    settings = Settings({"a": "1"})
    assert repr(settings) == "<Settings {'a': '1'}>"
    assert "'a'" in repr(Origin(settings, {}))
    assert (
        repr(Effect(("a",), local=True)) == "<Effect (('a',), False, False, True, 0, None, False)>"
    )


def test_under_which_settings_a_text_means_the_same() -> None:
    def scope(**values: str) -> bytes:
        return Settings(values).scope

    assert NOTHING_SET.scope == b""
    assert scope(application_name="a", work_mem="1MB", enable_seqscan="off", role="r") == b""
    assert Settings({"app.tenant": "1"}).scope == b""
    assert scope(search_path="a", datestyle="b") == scope(datestyle="b", search_path="a")
    assert scope(search_path="a") != scope(search_path="b")
    assert scope(search_path="a") != scope(datestyle="a")
