"""Log-in on both sides, with real servers: who gets in, with what words others are refused, and
that the start-up parameters of one client never reach another.
"""

import asyncio
import base64
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest

from pgproxy.embedded import Cluster
from pgproxy.protocol import scram
from tests.support import wire
from tests.support.place import cluster_parent
from tests.support.proxy import ProxyProcess
from tests.support.watch import eventually, status
from tests.support.wire import Address, Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(60)]

StartProxy = Callable[..., ProxyProcess]

PASSWORD: Final = 'pässwörd" \\x'
ON_SERVER: Final = ("trust", "password", "md5", "scram")
IN_FILE: Final = ("plain", "md5", "scram")
METHODS: Final = ("trust", "password", "md5", "scram-sha-256")
HBA: Final = [
    "host all postgres all trust",
    *(
        f"host all {server}_{entry} all {server.replace('scram', 'scram-sha-256')}"
        for server in ON_SERVER
        for entry in IN_FILE
    ),
    "host all outsider all scram-sha-256",
    "host all all all trust",
]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    """A server on which each user logs in in a way of his own: the user scram_md5 with SCRAM, and
    as md5… in the proxy's users_file."""
    with Cluster.create(0, hba=HBA, directory=cluster_parent()) as cluster:
        literal = PASSWORD.replace("'", "''")
        for server in ON_SERVER:
            stored = "md5" if server == "md5" else "scram-sha-256"
            for entry in IN_FILE:
                cluster.primary.psql(
                    f"SET standard_conforming_strings = on; SET password_encryption = '{stored}'; "
                    f"CREATE ROLE {server}_{entry} LOGIN PASSWORD '{literal}'"
                )
        cluster.primary.psql("CREATE ROLE outsider LOGIN PASSWORD 'something else'")
        yield cluster


@pytest.fixture(scope="module")
def users_file(guarded: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "users.txt"
    lines = [_line("outsider", PASSWORD)]
    for server in ON_SERVER:
        for entry in IN_FILE:
            name = f"{server}_{entry}"
            lines.append(_line(name, _entry(guarded, name, entry)))
    path.write_text("".join(lines), "utf-8")
    return path


def _line(user: str, password: str) -> str:
    doubled = password.replace('"', '""')
    return f'"{user}" "{doubled}"\n'


def _entry(cluster: Cluster, user: str, kind: str) -> str:
    if kind == "plain":
        return PASSWORD
    if kind == "md5":
        return "md5" + hashlib.md5(PASSWORD.encode() + user.encode()).hexdigest()
    stored = cluster.primary.psql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'")
    if stored.startswith("SCRAM"):
        return stored
    return scram.derive(PASSWORD.encode(), b"salt of our own!", 4096).secret().text()


@pytest.fixture(scope="module", params=METHODS)
def guard(
    request: pytest.FixtureRequest, guarded: Cluster, users_file: Path
) -> Iterator[tuple[str, ProxyProcess]]:
    """A log-in method, and a proxy that asks its clients for it."""
    auth = {"method": request.param, "users_file": str(users_file)}
    with ProxyProcess.start(guarded.servers, auth=auth) as proxy:
        yield request.param, proxy
        proxy.check()


def _connect(
    proxy: ProxyProcess, user: str, password: str = PASSWORD, database: str = "postgres"
) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=proxy.host, port=proxy.port, user=user, password=password, dbname=database
    )


def _gets_in(method: str, server: str, entry: str) -> bool:
    """Whether what the client shows and what the file says suffice for both log-ins."""
    asked = "scram-sha-256" if (method, entry) == ("md5", "scram") else method
    if asked == "scram-sha-256" and entry == "md5":
        return False  # of an MD5 hash nobody can make what SCRAM needs
    has_password = entry == "plain" or method == "password"
    if server == "trust" or has_password:
        return True
    if server == "md5":
        return entry == "md5"
    # The keys that the client has proved to have open the server with the same secret.
    return server == "scram" and entry == "scram" and asked == "scram-sha-256"


@pytest.mark.parametrize("server", ON_SERVER)
@pytest.mark.parametrize("entry", IN_FILE)
def test_every_way_in(guard: tuple[str, ProxyProcess], server: str, entry: str) -> None:
    method, proxy = guard
    user = f"{server}_{entry}"
    if _gets_in(method, server, entry):
        with _connect(proxy, user) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (user,)
    else:
        with pytest.raises(psycopg.OperationalError, match="FATAL"):
            _connect(proxy, user)


def test_a_wrong_password_never_gets_in(guard: tuple[str, ProxyProcess]) -> None:
    method, proxy = guard
    for user in ("trust_plain", "trust_md5", "trust_scram", "nobody"):
        for password in ("wrong", PASSWORD + " ", PASSWORD.upper()):
            if method == "trust" and user != "nobody":
                _connect(proxy, user, password).close()
                continue
            with pytest.raises(psycopg.OperationalError) as refused:
                _connect(proxy, user, password)
            words = (
                'role "nobody" does not exist'
                if method == "trust"
                else f'password authentication failed for user "{user}"'
            )
            assert f"FATAL:  {words}" in str(refused.value)


async def _conversation(address: Address, user: str, password: str) -> list[tuple[object, ...]]:
    """What a log-in with a password is told: type, authentication request, length of each frame;
    of an error its fields."""
    seen: list[tuple[object, ...]] = []
    exchange = scram.ScramClient()
    async with await Wire.open(address) as connection:
        await connection.send(wire.startup(user, "postgres"))
        while True:
            kind, body = await connection.read()
            if kind == b"E":
                fields = wire.fields(body)
                seen.append((kind, *(fields[field] for field in "SVCM")))
                assert await connection.until(b"") == []
                return seen
            request = int.from_bytes(body[:4])
            # Salts and nonces differ; that they are as long as others must not.
            seen.append((kind, request, len(body)))
            answer = b""
            if request == 3:
                answer = password.encode() + b"\0"
            elif request == 5:
                inner = hashlib.md5(password.encode() + user.encode())
                outer = hashlib.md5(inner.hexdigest().encode() + body[4:])
                answer = b"md5" + outer.hexdigest().encode() + b"\0"
            elif request == 10:
                first = exchange.first()
                answer = b"SCRAM-SHA-256\0" + len(first).to_bytes(4) + first
            elif request == 11:
                exchange.challenge(body[4:])
                keys = scram.derive(password.encode(), exchange.salt, exchange.iterations)
                answer = exchange.final(keys)
            await connection.send(wire.message(b"p", answer))


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
async def test_a_wrong_password_and_an_unknown_user_are_told_what_postgresql_tells(
    guarded: Cluster, tmp_path: Path, start_proxy: StartProxy, method: str
) -> None:
    known = "md5_plain" if method == "md5" else "scram_plain"
    (tmp_path / "users.txt").write_text(_line(known, _entry(guarded, known, "plain")))
    auth = {"method": method, "users_file": str(tmp_path / "users.txt")}
    proxy = await asyncio.to_thread(start_proxy, guarded.servers, auth=auth)
    wrong = await _conversation(proxy, known, "wrong")
    unknown = await _conversation(proxy, known[::-1], "wrong")
    assert [step[:3] for step in wrong] == [step[:3] for step in unknown]
    assert wrong[:-1] == unknown[:-1]
    assert wrong[-1][-1] == f'password authentication failed for user "{known}"'
    assert unknown[-1][-1] == f'password authentication failed for user "{known[::-1]}"'
    if method != "password":
        assert wrong == await _conversation(guarded.primary, known, "wrong")


def test_a_user_whom_only_the_server_refuses(guard: tuple[str, ProxyProcess]) -> None:
    """The file's password is not the server's: the client is told what the server said, or, where
    the proxy has nothing to show, what it lacks."""
    _, proxy = guard
    with pytest.raises(psycopg.OperationalError) as refused:
        _connect(proxy, "outsider")
    assert 'password authentication failed for user "outsider"' in str(refused.value)


async def test_a_database_that_does_not_exist(
    guarded: Cluster, guard: tuple[str, ProxyProcess]
) -> None:
    method, proxy = guard
    with pytest.raises(psycopg.OperationalError, match='FATAL:  database "missing" does not exist'):
        await asyncio.to_thread(_connect, proxy, "trust_plain", database="missing")
    if method == "trust":
        async with (
            await Wire.connect(proxy, database="missing") as ours,
            await Wire.connect(guarded.primary, database="missing") as direct,
        ):
            told = [
                {field: wire.fields(connection.startup[-1][1])[field] for field in "SVCM"}
                for connection in (ours, direct)
            ]
        assert told[0]["C"] == "3D000"
        assert told[0] == told[1]


def test_the_users_file_is_followed(
    guarded: Cluster, tmp_path: Path, start_proxy: StartProxy
) -> None:
    path = tmp_path / "users.txt"
    path.write_text(_line("trust_plain", "first"))
    proxy = start_proxy(guarded.servers, auth={"method": "scram-sha-256", "users_file": str(path)})

    def gets_in(user: str, password: str) -> bool:
        try:
            _connect(proxy, user, password).close()
        except psycopg.OperationalError:
            return False
        return True

    async def until(condition: Callable[[], bool]) -> None:
        await eventually(condition)

    staying = _connect(proxy, "trust_plain", "first")
    assert not gets_in("trust_plain", "second")
    assert not gets_in("trust_md5", "other")
    # As editors and Kubernetes do it: a new file in the old one's place.
    (tmp_path / "new").write_text(_line("trust_plain", "second") + _line("trust_md5", "other"))
    (tmp_path / "new").replace(path)
    asyncio.run(until(lambda: gets_in("trust_plain", "second")))
    assert not gets_in("trust_plain", "first")
    assert gets_in("trust_md5", "other")
    # A faulty file changes nothing, and neither does none.
    path.write_text('"trust_plain" "third\n')
    asyncio.run(until(lambda: len(proxy.events("users_unusable")) > 0))
    assert gets_in("trust_plain", "second")
    path.unlink()
    assert gets_in("trust_md5", "other")
    path.write_text(_line("trust_md5", "back"))
    asyncio.run(until(lambda: gets_in("trust_md5", "back")))
    assert not gets_in("trust_plain", "second")
    # Who is in stays in.
    with staying:
        assert staying.execute("SELECT 1").fetchone() == (1,)


def test_passwords_are_never_logged(guard: tuple[str, ProxyProcess]) -> None:
    _, proxy = guard
    with pytest.raises(psycopg.OperationalError):
        _connect(proxy, "outsider")
    for secret in (PASSWORD, "SCRAM-SHA-256$", base64.b64encode(PASSWORD.encode()).decode()):
        assert secret not in proxy.stderr
        assert secret not in proxy.get("/metrics")[1]
        assert secret not in str(status(proxy))


# --- start-up parameters

SETTINGS: Final = (
    *("application_name", "TimeZone", "client_encoding", "DateStyle", "work_mem", "search_path"),
)
ASK: Final = wire.query(
    "SELECT " + ", ".join(f"current_setting('{setting}')" for setting in SETTINGS)
)
CLIENTS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"application_name": "first", "TimeZone": "Europe/Paris", "options": "-c work_mem=1MB"},
    {"application_name": "second", "client_encoding": "LATIN1", "DateStyle": "German, DMY"},
    {"options": r"-c DateStyle=German,\ DMY --work-mem=3MB -c TimeZone=Asia/Tokyo"},
    {"application_name": "second", "client_encoding": "LATIN1"},
    {"work_mem": "7MB", "search_path": "seven"},
)


@pytest.mark.parametrize("size", [1, 3])
async def test_start_up_parameters_hold_for_their_client_alone(
    cluster: Cluster, start_proxy: StartProxy, size: int
) -> None:
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], pool={"size": size})
    expected, reported = [], []
    for parameters in CLIENTS:
        async with await Wire.connect(cluster.primary, **parameters) as direct:
            expected.append(wire.rows(await direct.ask(ASK)))
            reported.append(direct.parameters())
    connected = [await Wire.connect(proxy, **parameters) for parameters in CLIENTS]
    try:
        assert [client.parameters() for client in connected] == reported
        for _ in range(3):
            for client, rows in zip(connected, expected, strict=True):
                assert wire.rows(await client.ask(ASK)) == rows
        # All at once, each many times.
        async with asyncio.TaskGroup() as tasks:
            for client, rows in zip(connected, expected, strict=True):
                tasks.create_task(_asks(client, rows))
    finally:
        for client in connected:
            await client.drop()


async def _asks(client: Wire, rows: list[list[bytes | None]]) -> None:
    for _ in range(10):
        assert wire.rows(await client.ask(ASK)) == rows


async def test_what_a_client_sets_later_reaches_nobody_else(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], pool={"size": 1})
    async with await Wire.connect(proxy) as other:
        before = wire.rows(await other.ask(ASK))
        for setting in ("TimeZone = 'Asia/Tokyo'", "work_mem = '9MB'", "search_path = 'elsewhere'"):
            async with await Wire.connect(proxy) as client:
                await client.ask(wire.query(f"SET {setting}"))
                assert wire.rows(await client.ask(ASK)) != before
            assert wire.rows(await other.ask(ASK)) == before
