"""Sessions keep their settings, whichever server connection they get: one pool, many sessions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
import pytest_asyncio

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.wire import (
    SYNC,
    Wire,
    bind,
    describe,
    errors,
    execute,
    fields,
    message,
    parse,
    query,
    rows,
)

Rows = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def small(cluster: Cluster) -> Iterator[ProxyProcess]:
    """A proxy with one connection to each server, which all sessions share."""
    with ProxyProcess.start(cluster.servers, pool={"size": 1, "wait_timeout": 20}) as proxy:
        yield proxy


@pytest.fixture
def connect(
    small: ProxyProcess, fresh_database: str
) -> Iterator[Callable[..., "psycopg.Connection[Any]"]]:
    sessions: list[psycopg.Connection[Any]] = []

    def begin(**parameters: Any) -> "psycopg.Connection[Any]":
        session = psycopg.connect(small.dsn(db=fresh_database), autocommit=True, **parameters)
        sessions.append(session)
        return session

    yield begin
    for session in sessions:
        session.close()
    small.check()


@pytest_asyncio.fixture
async def wires(small: ProxyProcess, fresh_database: str) -> AsyncIterator[Callable[..., Any]]:
    opened: list[Wire] = []

    async def begin(**parameters: str) -> Wire:
        wire = await Wire.connect(small, database=fresh_database, **parameters)
        opened.append(wire)
        return wire

    yield begin
    for wire in opened:
        await wire.close()
    small.check()


def ask(session: "psycopg.Connection[Any]", sql: str, *values: Any) -> Any:
    (row,) = session.execute(sql, values or None).fetchall()  # type: ignore[arg-type]
    return row[0]


def show(session: "psycopg.Connection[Any]", name: str) -> str:
    return str(ask(session, f"SHOW {name}"))


def told(frames: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [body.rstrip(b"\0").replace(b"\0", b"=") for kind, body in frames if kind == b"S"]


def test_each_session_has_its_own(connect: Callable[..., Any]) -> None:
    one, other, third = connect(), connect(), connect()
    one.execute("SET work_mem = '5MB'")
    other.execute("SET SESSION work_mem TO '6MB'")
    third.execute('SET search_path TO x, "$user"')
    for _ in range(3):
        assert show(one, "work_mem") == "5MB"
        assert show(other, "work_mem") == "6MB"
        assert (show(third, "work_mem"), show(third, "search_path")) == ("4MB", 'x, "$user"')
    one.execute("RESET work_mem")
    other.execute("RESET ALL")
    third.execute("DISCARD ALL")
    assert [show(one, "work_mem"), show(other, "work_mem")] == ["4MB", "4MB"]
    assert show(third, "search_path") == '"$user", public'


def test_a_transaction_decides_what_is_left_of_it(connect: Callable[..., Any]) -> None:
    one, other = connect(), connect()
    with one.transaction(force_rollback=True):
        one.execute("SET work_mem = '5MB'")
    assert (show(one, "work_mem"), show(other, "work_mem")) == ("4MB", "4MB")
    with one.transaction():
        one.execute("SET work_mem = '5MB'; SET LOCAL work_mem = '6MB'")
        with one.transaction(force_rollback=True):
            one.execute("SET work_mem = '7MB'")
        one.execute("SET LOCAL timezone = 'CET'")
        assert (show(one, "work_mem"), show(one, "timezone")) == ("6MB", "CET")
    assert show(other, "work_mem") == "4MB"
    assert (show(one, "work_mem"), show(one, "timezone")) == ("5MB", show(other, "timezone"))


def test_a_refused_setting_is_none(connect: Callable[..., Any]) -> None:
    one, other = connect(), connect()
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        one.execute("SET work_mem = 'a lot'")
    with pytest.raises(psycopg.errors.DivisionByZero):
        one.execute("SET work_mem = '5MB'; SELECT 1/0")
    one.execute("SET work_mem = '6MB'; RESET work_mem")
    assert (show(other, "work_mem"), show(one, "work_mem")) == ("4MB", "4MB")


def test_settings_that_do_not_exist_do_not_begin_to(connect: Callable[..., Any]) -> None:
    one, other = connect(), connect()
    one.execute("SET app.tenant = 'one'")
    for _ in range(2):
        assert ask(other, "SELECT current_setting('app.tenant', true)") is None
        assert ask(other, "SELECT current_setting(%s, true)", "app.tenant") is None
        with pytest.raises(psycopg.errors.UndefinedObject):
            other.execute("SHOW app.tenant")
        assert show(one, "app.tenant") == "one"
    with one.transaction():
        one.execute("SELECT set_config('app.request', '7', true)")
    assert ask(one, "SELECT current_setting('app.request', true)") == ""
    assert ask(other, "SELECT current_setting('app.request', true)") is None


SET_CONFIG = "set_config('app.' || name, 'x', %s)"
NAMES = "FROM (VALUES ('made')) v (name)"


@pytest.mark.parametrize(
    "texts",
    [
        (f"SELECT {SET_CONFIG % 'false'} {NAMES}",),
        (f"SELECT 1 / (length({SET_CONFIG % 'true'}) - 1) {NAMES}",),  # made before the error
        (f"DO $$ BEGIN PERFORM {SET_CONFIG % 'false'} {NAMES}; END $$",),
        ("DO $$ BEGIN EXECUTE 'S' || 'ET app.made = 1'; END $$",),
        ("SET client_encoding = 'SJIS'", "SET app.made = 1"),  # where texts are not read
    ],
)
@pytest.mark.parametrize("discards", [False, True])
def test_nor_do_those_that_no_text_names(
    connect: Callable[..., Any], texts: tuple[str, ...], discards: bool
) -> None:
    one = connect()
    for sql in texts:
        with contextlib.suppress(psycopg.errors.DivisionByZero):
            one.execute(sql)
    if discards:
        one.execute("DISCARD ALL")
    one.close()
    for options in ("-c app.user=ann", ""):
        other = connect(options=options)
        with other.transaction():
            other.execute("LOCK pg_namespace IN ROW EXCLUSIVE MODE")  # on the primary, that is
            assert ask(other, "SELECT current_setting('app.made', true)") is None
        other.close()


A_ROLE_IN_VAIN = (
    "SELECT set_config('role', 'nobody_at_all', true), set_config('app.seen', 'x', true)"
)
IN_VAIN = "SELECT 1 / (SELECT count(*) FROM pg_class WHERE false)"


@pytest.mark.parametrize(
    "texts",
    [
        # Named, and not set.
        (f"{IN_VAIN}; SET app.seen = 'x'",),
        ("SELECT set_config('app.seen', 'x', false) WHERE false",),
        (
            "SELECT CASE WHEN count(*) = 0 THEN set_config('app.seen', 'x', false) END FROM pg_class",
        ),
        ("SELECT set_config('app.seen', (1 / (count(*) - count(*)))::text, true) FROM pg_class",),
        ("BEGIN", f"{IN_VAIN}; SET app.seen = 'x'", "ROLLBACK"),
        ("BEGIN", IN_VAIN, "SET app.seen = 'x'", "ROLLBACK"),
        ("BEGIN", "SET app.seen = x.y", "ROLLBACK"),
        ("PREPARE s AS SELECT set_config('app.seen', 'x', true)", f"{IN_VAIN}; EXECUTE s"),
        ("EXPLAIN (ANALYZE, ANALYZE off) SELECT set_config('app.seen', 'x', true)",),
        (A_ROLE_IN_VAIN,),
        ("BEGIN", A_ROLE_IN_VAIN, "ROLLBACK"),
        # Looked at before it is set, by what names it nowhere in the text.
        ("SELECT * FROM seen; SET app.seen = 'x'",),
        # Set, or set in vain but there.
        ("SET app.seen = 'x'",),
        ("SET LOCAL app.seen = 'x'",),
        ("RESET app.seen",),
        ("SET app.seen TO DEFAULT",),
        ("SELECT set_config('app.seen', NULL, false)",),
        ("SELECT set_config('app.seen', 'x', true)", IN_VAIN),
        ("BEGIN", "SET app.seen = 'x'", IN_VAIN, "ROLLBACK"),
        ("BEGIN", f"SET app.seen = 'x'; {IN_VAIN}", "ROLLBACK"),
        ("SELECT set_config('app.seen', 'x', true), set_config('role', 'nobody_at_all', true)",),
        (f"SET app.seen = 'x'; {IN_VAIN}",),
    ],
)
def test_what_is_named_and_not_set_does_not_begin_to_exist(
    cluster: Cluster, connect: Callable[..., Any], fresh_database: str, texts: tuple[str, ...]
) -> None:
    cluster.primary.psql(
        "CREATE VIEW seen AS SELECT current_setting('app.seen', true) AS value", db=fresh_database
    )

    def play(session: "psycopg.Connection[Any]") -> list[Any]:
        seen: list[Any] = []
        for sql in (*texts, "SELECT value FROM seen"):
            try:
                cursor = session.execute(sql)
                seen.append(cursor.fetchall() if cursor.description else cursor.statusmessage)
            except psycopg.Error as error:
                seen.append(error.sqlstate)
        return [value for value in seen if "Planning" not in str(value)]

    with psycopg.connect(cluster.primary.dsn(db=fresh_database), autocommit=True) as direct:
        expected = play(direct)
    one, other = connect(), connect()
    one.execute("SET app.seen = 'mine'")
    assert play(other) == expected
    assert show(one, "app.seen") == "mine"
    assert ask(other, "SELECT value FROM seen") == expected[-1][0][0]


@pytest.mark.parametrize("value", ["it's", "a\\b'\"", "süß €", "\U0001f600", "x" * 5000, ""])
def test_any_text_goes_along(connect: Callable[..., Any], value: str) -> None:
    one, other = connect(), connect()
    name = "app.text"
    assert ask(one, "SELECT set_config(%s, %s, false)", name, value) == value
    assert ask(other, "SELECT 1") == 1
    other.execute("SET standard_conforming_strings = off")
    assert ask(one, "SELECT current_setting('app.text')") == value
    assert show(other, "standard_conforming_strings") == "off"


ROW_SECURITY = """
    CREATE TABLE notes (owner text, note text);
    INSERT INTO notes VALUES ('ann', 'a1'), ('bob', 'b1'), ('bob', 'b2');
    CREATE POLICY own ON notes USING (owner = current_setting('app.user', true));
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    CREATE POLICY by_role ON notes USING (owner = current_user);
"""


def test_row_security_on_every_server(
    cluster: Cluster, connect: Callable[..., Any], fresh_database: str
) -> None:
    roles = [f"{fresh_database}_{name}" for name in ("app", "ann")]
    cluster.primary.psql(
        ROW_SECURITY + f"CREATE ROLE {roles[0]}; CREATE ROLE {roles[1]};"
        f"GRANT SELECT ON notes TO {roles[0]}, {roles[1]};"
        f"INSERT INTO notes VALUES ('{roles[1]}', 'by role')",
        db=fresh_database,
    )
    cluster.wait_caught_up()
    try:
        ann, bob, nobody, by_role = (connect() for _ in range(4))
        for session in (ann, bob, nobody):
            session.execute(f"SET ROLE {roles[0]}")
        by_role.execute(f"SET ROLE {roles[1]}")
        ann.execute("SET app.\"user\" = 'ann'")
        ask(bob, "SELECT set_config('app.user', 'bob', false)")
        seen: set[str] = set()
        for _ in range(6):
            for session, notes in ((ann, 1), (bob, 2), (nobody, 0), (by_role, 1)):
                assert ask(session, "SELECT count(*) FROM notes") == notes
                seen.add(ask(session, "SELECT current_setting('port')"))
        # The reads were not all on the primary.
        assert seen - {str(cluster.primary.port)}
        with bob.transaction():
            bob.execute("SET TRANSACTION READ ONLY")
            ask(bob, "SELECT set_config('app.user', 'ann', true)")
            assert ask(bob, "SELECT count(*) FROM notes") == 1
        assert ask(bob, "SELECT count(*) FROM notes") == 2
    finally:
        for session in (ann, bob, nobody, by_role):
            session.execute("RESET ROLE")
        cluster.primary.psql(
            f"DROP OWNED BY {roles[0]}, {roles[1]}; DROP ROLE {roles[0]}, {roles[1]}",
            db=fresh_database,
        )


def test_a_read_only_transaction_may_set_what_it_likes_on_a_replica(
    cluster: Cluster, connect: Callable[..., Any]
) -> None:
    session = connect()
    for begin in ("BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
        session.execute(begin)
        ask(session, "SELECT set_config('app.user', 'ann', true)")
        session.execute("SET LOCAL work_mem = '5MB'; SET timezone = 'CET'")
        assert ask(session, "SELECT pg_is_in_recovery()")
        assert show(session, "work_mem") == "5MB"
        session.execute("COMMIT")
        assert (show(session, "work_mem"), show(session, "timezone")) == ("4MB", "CET")


def test_the_start_up_packet(connect: Callable[..., Any]) -> None:
    one = connect(application_name="one", options="-c work_mem=5MB -c app.x=1")
    other = connect(application_name="other", options="-c work_mem=6MB")
    for _ in range(2):
        assert (show(one, "application_name"), show(one, "work_mem")) == ("one", "5MB")
        assert (show(other, "application_name"), show(other, "work_mem")) == ("other", "6MB")
        assert (show(one, "app.x"), ask(other, "SELECT current_setting('app.x', true)")) == (
            "1",
            None,
        )
    # What is set back is what the session began with.
    one.execute("SET work_mem = '7MB'")
    one.execute("RESET work_mem")
    assert show(one, "work_mem") == "5MB"
    with one.transaction():
        one.execute("SET work_mem = '8MB'")
        one.execute("RESET ALL")
        assert (show(one, "work_mem"), show(one, "application_name")) == ("5MB", "one")
    one.execute("SET application_name = 'changed'")
    one.execute("DISCARD ALL")
    assert (show(one, "application_name"), show(one, "app.x")) == ("one", "1")
    assert one.info.parameter_status("application_name") == "one"


@pytest.mark.parametrize(
    ("options", "sqlstate"),
    [
        ("-c work_mem=much", "22023"),
        ("-c no_such_setting=1", "42704"),
        ("-c max_connections=10", "55P02"),
        ("-c role=nobody_is_called_so", "22023"),
    ],
)
@pytest.mark.asyncio
async def test_a_start_up_packet_that_postgresql_refuses(
    wires: Callable[..., Any], cluster: Cluster, options: str, sqlstate: str
) -> None:
    wire = await wires(options=options)
    direct = await Wire.connect(cluster.primary, options=options)
    async with direct:
        refused, expected = (
            {key: value for key, value in fields(one.startup[-1][1]).items() if key in "SVCMDH"}
            for one in (wire, direct)
        )
    assert refused == expected
    assert (refused["S"], refused["C"]) == ("FATAL", sqlstate)


@pytest.mark.asyncio
async def test_what_can_only_be_given_at_the_start(wires: Callable[..., Any]) -> None:
    plain, special = await wires(), await wires(options="-c ignore_system_indexes=on")
    for _ in range(2):
        assert rows(await special.ask(query("SHOW ignore_system_indexes"))) == [[b"on"]]
        assert rows(await plain.ask(query("SHOW ignore_system_indexes"))) == [[b"off"]]


@pytest.mark.asyncio
async def test_parameter_status_tells_of_a_session_s_own_values(
    wires: Callable[..., Any],
) -> None:
    one, other = await wires(application_name="one"), await wires(TimeZone="CET")
    assert one.parameters()["application_name"] == "one"
    assert other.parameters()["TimeZone"] == "CET"
    assert told(await one.ask(query("SET TimeZone = 'Asia/Tokyo'"))) == [b"TimeZone=Asia/Tokyo"]
    for _ in range(2):
        for wire in (one, other):
            assert told(await wire.ask(query("SELECT 1"))) == []
    assert told(await one.ask(query("SET TimeZone = 'Asia/Tokyo'"))) == []
    assert told(await other.ask(query("SET TimeZone = 'UTC'"))) == [b"TimeZone=UTC"]
    # Back to what it began with.
    assert told(await other.ask(query("RESET TimeZone"))) == [b"TimeZone=CET"]
    assert told(await other.ask(query("DISCARD ALL"))) == []
    assert told(await other.ask(query("BEGIN"), query("SET TimeZone = 'UTC'"), ready=2)) == [
        b"TimeZone=UTC"
    ]
    assert told(await other.ask(query("ROLLBACK"))) == [b"TimeZone=CET"]


@pytest.mark.asyncio
async def test_what_is_set_back_before_a_flush(wires: Callable[..., Any]) -> None:
    one = await wires(options="-c work_mem=5MB -c app.x=ann")
    for name, value in (("work_mem", b"5MB"), ("app.x", b"ann")):
        await one.ask(query(f"SET {name} = '6MB'"))
        await one.send(parse(f"RESET {name}") + bind() + execute() + message(b"H"))
        await one.until(b"C")
        await one.ask(SYNC)
        assert rows(await one.ask(query(f"SHOW {name}"))) == [[value]]


@pytest.mark.asyncio
async def test_what_follows_at_once_has_the_value_that_the_session_began_with(
    wires: Callable[..., Any],
) -> None:
    one = await wires(options="-c work_mem=5MB -c app.x=ann")
    for resetting in ("RESET {}", "SET {} TO DEFAULT", "RESET ALL", "DISCARD ALL"):
        for name, value in (("work_mem", b"5MB"), ("app.x", b"ann")):
            await one.ask(query(f"SET {name} = '6MB'"))
            show = query(f"SHOW {name}")
            assert rows(await one.ask(query(resetting.format(name)), show, ready=2)) == [[value]]
            assert rows(await one.ask(show)) == [[value]]


@pytest.mark.asyncio
async def test_what_is_set_back_in_vain_stays(wires: Callable[..., Any]) -> None:
    one = await wires(options="-c work_mem=5MB -c app.x=ann")
    for name in ("work_mem", "app.x"):
        await one.ask(query(f"SET {name} = '6MB'"))
        resetting = query(f"RESET {name}; SELECT 1/0")
        before = query("/* pgproxy: primary */ SELECT 1")
        assert errors(await one.ask(before, resetting, ready=2)) == ["22012"]
        assert rows(await one.ask(query(f"SHOW {name}"))) == [[b"6MB"]]


@pytest.mark.asyncio
async def test_a_setting_of_a_transaction_is_told_behind_a_reset(
    wires: Callable[..., Any],
) -> None:
    one = await wires(TimeZone="CET")
    await one.ask(query("RESET TimeZone"))
    frames = await one.ask(query("BEGIN"), query("SET LOCAL TimeZone = 'Asia/Tokyo'"), ready=2)
    assert told(frames) == [b"TimeZone=Asia/Tokyo"]
    assert told(await one.ask(query("COMMIT"))) == [b"TimeZone=CET"]


@pytest.mark.asyncio
async def test_settings_in_one_pipeline(wires: Callable[..., Any]) -> None:
    one, other = await wires(), await wires()
    setting = parse("SELECT set_config($1, $2, false)") + bind(b"app.n", b"1") + execute() + SYNC
    reading = parse("SELECT current_setting('app.n', true)") + bind() + describe("P") + execute()
    for _ in range(3):
        frames = await one.ask(
            query("SET work_mem = '5MB'"), query("SHOW work_mem"), setting, reading + SYNC, ready=4
        )
        assert rows(frames) == [[b"5MB"], [b"1"], [b"1"]]
        assert rows(await other.ask(reading, SYNC)) == [[None]]
        assert rows(await other.ask(query("SHOW work_mem"))) == [[b"4MB"]]
        frames = await one.ask(query("RESET ALL"), query("SHOW work_mem"), ready=2)
        assert rows(frames) == [[b"4MB"]]


@pytest.mark.asyncio
async def test_a_role_of_another_authorization(
    wires: Callable[..., Any], cluster: Cluster, fresh_database: str
) -> None:
    user, role = f"{fresh_database}_user", f"{fresh_database}_role"
    cluster.primary.psql(f"CREATE ROLE {user}; CREATE ROLE {role}; GRANT {role} TO {user}")
    one, other = await wires(), await wires()
    try:
        await one.ask(query(f"SET ROLE {role}"))
        changing = f"SET SESSION AUTHORIZATION {user}", f"SET ROLE {role}"
        assert errors(await one.ask(*map(query, ("BEGIN", *changing, "COMMIT")), ready=4)) == []
        for _ in range(2):
            assert errors(await other.ask(query("/* pgproxy: primary */ SELECT 1"))) == []
            who = query("/* pgproxy: primary */ SELECT current_user, session_user")
            assert rows(await one.ask(who)) == [[role.encode(), user.encode()]]
    finally:
        await one.ask(query("DISCARD ALL"))
        cluster.primary.psql(f"DROP ROLE {user}, {role}")


@pytest.mark.asyncio
@pytest.mark.parametrize("simple", [True, False])
async def test_what_follows_a_setting_made_in_vain_does_not_see_that_of_others(
    wires: Callable[..., Any], simple: bool
) -> None:
    one, other = await wires(), await wires()
    await one.ask(query("SET app.seen = 'mine'"))

    def run(sql: str) -> bytes:
        return query(sql) if simple else parse(sql) + bind() + execute() + SYNC

    look = run("SELECT current_setting('app.seen', true)")
    in_vain = run(A_ROLE_IN_VAIN)
    frames = await other.ask(in_vain, look, look, ready=3)
    assert (errors(frames), rows(frames)) == (["22023"], [[None]] * 2)
    block = query("BEGIN"), in_vain, look, query("ROLLBACK"), look
    frames = await other.ask(*block, ready=5)
    assert (errors(frames), rows(frames)) == (["22023", "25P02"], [[None]])


@pytest.mark.asyncio
async def test_letters_of_another_encoding(wires: Callable[..., Any]) -> None:
    one, other = await wires(client_encoding="LATIN1"), await wires()
    await one.ask(message(b"Q", b"SET app.text = '\xc3\xbc'\0"))
    await other.ask(query("/* pgproxy: primary */ SELECT 1"))
    text = query("/* pgproxy: primary */ SELECT length(current_setting('app.text'))")
    assert rows(await one.ask(text)) == [[b"2"]]


@pytest.mark.asyncio
async def test_what_the_server_tells_of_temporary_things(
    wires: Callable[..., Any], small: ProxyProcess
) -> None:
    one, other = await wires(), await wires()
    for kind, definition in (
        ("TABLE pg_temp.a", "(i int)"),
        ("VIEW pg_temp.a", "AS SELECT 1"),
        ("SEQUENCE pg_temp.a", ""),
        ("DOMAIN pg_temp.a", "AS int"),
        ("COLLATION pg_temp.a", 'FROM pg_catalog."C"'),
        ("FUNCTION pg_temp.a()", "RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ):
        await one.ask(query(f"CREATE TEMP TABLE b (i int); CREATE {kind} {definition}"))
        await one.ask(query("DROP TABLE b"))
        assert errors(await one.ask(query(f"DROP {kind}"))) == []
        assert errors(await other.ask(query("/* pgproxy: primary */ SELECT 1"))) == []


@pytest.mark.asyncio
async def test_a_level_in_capitals_is_one(wires: Callable[..., Any]) -> None:
    one = await wires()
    await one.ask(query("SET default_transaction_isolation = 'SERIALIZABLE'"))
    for _ in range(3):
        assert errors(await one.ask(query("SELECT 1"))) == []


@pytest.mark.parametrize("again", ["2000", "1"])
@pytest.mark.asyncio
async def test_what_a_role_may_not_set_stays_what_it_was(
    small: ProxyProcess, cluster: Cluster, fresh_database: str, again: str
) -> None:
    """In vain: the server tells a value in its own way, which is no reason to set it later."""
    role, user = f"{fresh_database}_role", f"{fresh_database}_user"
    cluster.primary.psql(
        f"CREATE ROLE {role}; CREATE ROLE {user} LOGIN IN ROLE {role};"
        f" GRANT SET ON PARAMETER deadlock_timeout TO {user}"
    )
    try:
        for login in (user, "postgres"):
            one, other = [
                await Wire.connect(small, user=login, database=fresh_database) for _ in range(2)
            ]
            for sql in ("SET deadlock_timeout = 2000", f"SET ROLE {role}"):
                assert errors(await one.ask(query(sql))) == []
            refused = query(f"BEGIN; SET deadlock_timeout = {again}; COMMIT")
            assert errors(await one.ask(refused)) == ["42501"]
            assert errors(await one.ask(query("ROLLBACK"))) == []
            for _ in range(4):
                assert rows(await other.ask(query("SHOW deadlock_timeout"))) == [[b"1s"]]
                shown = await one.ask(query("SELECT current_setting('deadlock_timeout')"))
                assert rows(shown) == [[b"2s"]]
            for wire in (one, other):
                await wire.close()
    finally:
        cluster.primary.psql(f"DROP OWNED BY {user}; DROP ROLE {role}, {user}")


@pytest.mark.asyncio
async def test_what_only_a_role_could_set_ends_nobody_elses_session(
    small: ProxyProcess, cluster: Cluster, fresh_database: str
) -> None:
    role, user = f"{fresh_database}_role", f"{fresh_database}_user"
    cluster.primary.psql(f"CREATE ROLE {role} SUPERUSER; CREATE ROLE {user} LOGIN IN ROLE {role}")
    one, again, other = [
        await Wire.connect(small, user=user, database=fresh_database) for _ in range(3)
    ]
    try:
        for sql in (f"SET ROLE {role}", "SET log_min_duration_statement = 1234567", "RESET ROLE"):
            assert errors(await one.ask(query(sql))) == []
        shown = await other.ask(query("/* pgproxy: primary */ SHOW log_min_duration_statement"))
        assert rows(shown) == [[b"-1"]]
        # Nor does it keep anybody from logging in.
        for sql in (f"SET ROLE {role}", "SET log_min_duration_statement = 1234567", "RESET ROLE"):
            assert errors(await again.ask(query(sql))) == []
        late = await Wire.connect(
            small, user=user, database=fresh_database, options="-c work_mem=5MB"
        )
        async with late:
            assert rows(await late.ask(query("SHOW work_mem"))) == [[b"5MB"]]
    finally:
        for wire in (one, again, other):
            await wire.close()
        cluster.primary.psql(f"DROP ROLE {role}, {user}")


@pytest.mark.parametrize("text", ["ROLLBACK; {}", "COMMIT; {}", "{}"])
@pytest.mark.asyncio
async def test_nothing_is_run_where_the_settings_cannot_be_restored(
    wires: Callable[..., Any], cluster: Cluster, fresh_database: str, text: str
) -> None:
    role = f"{fresh_database}_gone"
    cluster.primary.psql(f"CREATE ROLE {role}; CREATE TABLE seen (who text)", db=fresh_database)
    one, other = await wires(), await wires()
    await one.ask(query(f"SET ROLE {role}"))
    await other.ask(query("/* pgproxy: primary */ SELECT 1"))
    cluster.primary.psql(f"DROP ROLE {role}")
    inserting = query(text.format("INSERT INTO seen VALUES (current_user)"))
    frames = await one.ask(query("/* pgproxy: primary */ SELECT 1"), inserting)
    assert errors(frames) == ["22023"]
    assert errors(await other.ask(query("BEGIN"), query("LOCK TABLE seen"), ready=2)) == []
    assert rows(await other.ask(query("SELECT count(*) FROM seen"))) == [[b"0"]]


@pytest.mark.asyncio
async def test_a_timeout_of_one_session_ends_no_statement_of_another(
    wires: Callable[..., Any],
) -> None:
    one, other = await wires(), await wires()
    for _ in range(20):
        await one.ask(query("SET statement_timeout = '20ms'"))
        assert errors(await one.ask(query("SELECT pg_sleep(1)"))) == ["57014"]
        assert errors(await other.ask(query("SELECT pg_sleep(0.05)"))) == []


@pytest.mark.asyncio
async def test_defaults_that_are_altered_hold_for_sessions_that_begin_then(
    small: ProxyProcess, cluster: Cluster, wires: Callable[..., Any], fresh_database: str
) -> None:
    before = await wires()
    assert rows(await before.ask(query("SHOW work_mem"))) == [[b"4MB"]]
    await before.ask(query(f"ALTER DATABASE {fresh_database} SET work_mem = '5MB'"))
    after = await wires()
    assert rows(await after.ask(query("BEGIN"), query("SHOW work_mem"), ready=2)) == [[b"5MB"]]
    await after.ask(query("COMMIT"))
    # By somebody who does not go through the proxy.
    cluster.primary.psql(f"ALTER DATABASE {fresh_database} SET work_mem = '6MB'")
    async with asyncio.timeout(30):
        while True:
            later = await wires()
            if rows(await later.ask(query("BEGIN"), query("SHOW work_mem"), ready=2)) == [[b"6MB"]]:
                return
            await later.close()


@pytest.mark.asyncio
async def test_who_is_made_a_superuser_is_one_from_the_next_log_in_on(
    small: ProxyProcess, cluster: Cluster, wires: Callable[..., Any], fresh_database: str
) -> None:
    user = f"{fresh_database}_user"
    cluster.primary.psql(f"CREATE ROLE {user} LOGIN")
    cluster.wait_caught_up()

    async def told_and_shown() -> set[str]:
        async with await Wire.connect(small, user=user, database=fresh_database) as wire:
            await wire.ask(query("BEGIN"), query("SELECT 1"), ready=2)
            shown = rows(await wire.ask(query("SHOW is_superuser")))[0][0]
            assert shown is not None
            return {wire.parameters()["is_superuser"], shown.decode()}

    try:
        assert await told_and_shown() == {"off"}
        # By somebody who does not go through the proxy.
        cluster.primary.psql(f"ALTER ROLE {user} SUPERUSER")
        async with asyncio.timeout(30):
            while await told_and_shown() != {"on"}:  # noqa: ASYNC110 - the monitor tells nobody
                await asyncio.sleep(0.05)
        admin = await wires()
        await admin.ask(query(f"ALTER ROLE {user} NOSUPERUSER"))
        assert await told_and_shown() == {"off"}
    finally:
        cluster.primary.psql(f"DROP ROLE {user}")


@pytest.mark.asyncio
async def test_asyncpg_takes_its_connections_back(small: ProxyProcess, fresh_database: str) -> None:
    """Its pool sends RESET ALL and more each time."""
    pool = await asyncpg.create_pool(
        small.dsn(db=fresh_database),
        min_size=4,
        max_size=4,
        server_settings={"application_name": "pooled"},
    )
    async with pool:

        async def work(number: int) -> None:
            async with pool.acquire() as session:
                assert await session.fetchval("SHOW work_mem") == "4MB"
                await session.execute(f"SET work_mem = '{number + 5}MB'")
                assert await session.fetchval("SHOW work_mem") == f"{number + 5}MB"
                assert await session.fetchval("SHOW application_name") == "pooled"

        await asyncio.gather(*(work(number % 10) for number in range(60)))


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["app.who", "work_mem"])
async def test_what_all_is_reset_to_is_what_the_session_began_with(
    proxy: ProxyProcess, name: str
) -> None:
    """In the extended protocol, with a setting in play that PostgreSQL does not know, and without."""
    async with await Wire.connect(proxy, TimeZone="Etc/UTC") as wire:
        for sql in (f"SET {name} = '1MB'", "SET TimeZone = 'Asia/Tokyo'", "RESET ALL"):
            await wire.ask(parse(sql) + bind() + execute() + SYNC)
        frames = await wire.ask(query("SHOW TimeZone"))
        assert rows(frames) == [[b"Etc/UTC"]]
        async with await Wire.connect(proxy) as other:
            for _ in range(4):
                assert rows(await other.ask(query("SHOW TimeZone"))) != [[b"Etc/UTC"]]
                assert rows(await wire.ask(query("SHOW TimeZone"))) == [[b"Etc/UTC"]]
