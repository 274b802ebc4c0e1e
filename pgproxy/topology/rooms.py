"""How many connections of ordinary users a server takes: what `max_connections` leaves them."""

import asyncio
from typing import Final

from pgproxy.config import Config
from pgproxy.servers.tls import ServerTls
from pgproxy.topology.access import connect, describe
from pgproxy.topology.model import Backend
from pgproxy.topology.static import backends

# reserved_connections is there from version 16 on.
ROOM: Final = """current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true), '0')::int"""


async def ask_rooms(config: Config) -> list[tuple[str, int, str]]:
    """Of each configured server its name, the answer (0: none), and why there is none."""
    tls = ServerTls(config.server)
    asked = [_ask(config, tls, backend) for backend in backends(config.discovery)]
    return list(await asyncio.gather(*asked))


async def _ask(config: Config, tls: ServerTls, backend: Backend) -> tuple[str, int, str]:
    health = config.health
    try:
        async with asyncio.timeout(health.timeout):
            connection = await connect(
                backend.host, backend.port, health, health.database, {}, tls=tls
            )
            try:
                return backend.name, await connection.fetchval(f"SELECT {ROOM}"), ""
            finally:
                connection.terminate()
    except TimeoutError:
        return backend.name, 0, f"no answer within {health.timeout:g} s"
    except Exception as error:  # noqa: BLE001 - whatever a server, or the way to it, says
        return backend.name, 0, describe(error)
