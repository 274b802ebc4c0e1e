"""A session that begins under another role than its user's is told what PostgreSQL itself would tell."""

import asyncio
from collections.abc import Iterator
from typing import Final

import pytest

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.wire import Address, Frame, Wire, fields, query

ROLES: Final = """
    CREATE ROLE first_plain; CREATE ROLE first_super SUPERUSER;
    CREATE ROLE first_member LOGIN IN ROLE first_plain, first_super;
"""
NO_ROLES: Final = "DROP ROLE first_member, first_plain, first_super"
PLAIN: Final = "-c role=first_plain"

SCRIPTS: Final = [
    ["DISCARD ALL", "DISCARD ALL"],
    ["RESET ALL"],
    ["RESET ROLE"],
    ["SET ROLE TO DEFAULT"],
    ["RESET SESSION AUTHORIZATION", "RESET ALL"],
    ["SET ROLE NONE", "RESET ALL", "DISCARD ALL"],
    ["SET ROLE first_super", "RESET ROLE"],
    ["SET ROLE first_super", "DISCARD ALL"],
    ["BEGIN", "SET ROLE NONE", "RESET ROLE", "ROLLBACK"],
    ["SELECT set_config('role', 'none', true)", "RESET ALL"],
]


@pytest.fixture(scope="module")
def roles(cluster: Cluster) -> Iterator[None]:
    cluster.primary.psql(ROLES)
    cluster.wait_caught_up()
    yield
    cluster.primary.psql(NO_ROLES)


@pytest.fixture(scope="module", params=[{}, {"size": 1}], ids=["pool", "single"])
def proxy(request: pytest.FixtureRequest, cluster: Cluster, roles: None) -> Iterator[ProxyProcess]:
    with ProxyProcess.start(cluster.servers, pool=request.param) as started:
        yield started


async def play(address: Address, login: dict[str, str], script: list[str]) -> list[list[Frame]]:
    async with await Wire.connect(address, **login) as client:  # type: ignore[arg-type]
        seen = [[frame for frame in client.startup if frame[0] in b"SE"]]
        for sql in script:
            seen.append(await client.ask(query(sql)))
            seen.append(await client.ask(query("SELECT current_user, session_user")))
        return seen


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "login",
    [
        {"options": PLAIN},
        {"role": "first_plain"},
        {"user": "first_member", "options": PLAIN},
        {"user": "first_member", "role": "first_super"},
        {"role": "none"},
        {"Session_Authorization": "first_plain"},
        {"session_authorization": "first_plain", "options": PLAIN},
    ],
)
async def test_it_is_told_the_same(
    cluster: Cluster, proxy: ProxyProcess, login: dict[str, str]
) -> None:
    for script in SCRIPTS:
        direct = await play(cluster.primary, login, script)
        for _ in range(2):
            assert await play(proxy, login, script) == direct, script
    await asyncio.to_thread(proxy.check)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "login",
    [
        {"role": "nobody_known"},
        {"session_authorization": "nobody_known"},
        {"user": "first_member", "session_authorization": "first_plain"},
    ],
)
async def test_it_is_refused_the_same(
    cluster: Cluster, proxy: ProxyProcess, login: dict[str, str]
) -> None:
    async def start(address: Address) -> dict[str, str]:
        async with await Wire.connect(address, **login) as client:  # type: ignore[arg-type]
            (told,) = [fields(body) for kind, body in client.startup if kind == b"E"]
            return {name: told[name] for name in "SCM"}

    assert await start(proxy) == await start(cluster.primary)
