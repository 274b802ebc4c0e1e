"""`pgproxy demo`: a real PostgreSQL primary with replicas, the proxy in front, and a live view.

All of it listens on 127.0.0.1 alone, since it asks nobody for a password, and is removed at the
end, whatever the end is (see pgproxy.embedded).
"""

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import uvloop

from pgproxy import app
from pgproxy.config import (
    Auth,
    Backend,
    Config,
    Discovery,
    Health,
    Http,
    Listen,
    Server,
)
from pgproxy.embedded import HOST, SUPERUSER, Cluster, find_installation
from pgproxy.telemetry import logs

_CLIENT_PORT: Final = 5432
_HTTP_PORT: Final = 9930
_LINES_PER_SECOND: Final = 20
_SQL_SHOWN: Final = 80  # characters


def run_demo(replicas: int, port: int | None) -> None:
    """Run until Ctrl-C or SIGTERM.

    `port` is where the proxy listens; None or 0 is 5432 if that is free, else one the system picks.
    Raises `EmbeddedError` if PostgreSQL is missing or does not start, `OSError` if `port` is taken.
    """
    start = time.monotonic()

    def progress(text: str) -> None:
        _say(f"{time.monotonic() - start:5.1f} s  {text}")

    listen_port = _port_or_any(_CLIENT_PORT)
    if port:
        listen_port = port
        _try_port(port)  # so that it is said before anything is started
    logs.configure("warning", "text")
    installation = find_installation()
    with (
        contextlib.suppress(KeyboardInterrupt),
        Cluster.create(replicas, installation=installation, progress=progress) as cluster,
    ):
        progress("starting pgproxy")
        psql = "psql" if shutil.which("psql") else shlex.quote(str(installation.tool("psql")))
        uvloop.run(_serve(_config(cluster, listen_port), psql, progress))
        _say("stopping PostgreSQL and removing its data")


async def _serve(config: Config, psql: str, progress: Callable[[str], None]) -> None:
    view = LiveView(_say, asyncio.get_running_loop())

    def ready(where: app.Ready) -> None:
        progress("ready")
        if where.port != _CLIENT_PORT and config.listen.port == 0:
            _say(f"Port {_CLIENT_PORT} is taken, so the system picked {where.port}.")
        _say(_welcome(where, psql))
        # In place of the proxy's own handler, which says nothing.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted)

    def interrupted() -> None:
        _say("\nstopping; Ctrl-C again cuts off the clients that are still at work")
        os.kill(os.getpid(), signal.SIGTERM)

    await app.serve(config, on_ready=ready, on_statement=view.statement)
    view.close()


class LiveView:
    """One line for each statement, or one line a second while there are more than 20 in each."""

    def __init__(self, say: Callable[[str], None], loop: asyncio.AbstractEventLoop) -> None:
        self._say = say
        self._loop = loop
        self._room = _LINES_PER_SECOND  # for lines in this second
        self._unshown: Counter[tuple[str, str]] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def statement(self, sql: bytes, backend: str, _target: str, reason: str) -> None:
        """Called by the relay as it sends a statement to a server."""
        if self._timer is None:
            self._timer = self._loop.call_later(1.0, self._second_is_over)
        if not self._room:
            self._unshown[backend, reason] += 1
            return
        self._room -= 1
        self._say(f"{_clock()}  -> {backend:<10} {reason:<20} {_one_line(sql)}")

    def close(self) -> None:
        """Show what is still to be shown."""
        if self._timer is not None:
            self._timer.cancel()
            self._second_is_over()

    def _second_is_over(self) -> None:
        self._timer = None
        total = self._unshown.total()
        # After a flood the next second has no lines of its own, but for the sum.
        self._room = 0 if total > _LINES_PER_SECOND else _LINES_PER_SECOND
        if total:
            counts = sorted(self._unshown.items())
            shares = (f"{count} -> {backend} ({reason})" for (backend, reason), count in counts)
            self._say(f"{_clock()}  {total} more within a second: {', '.join(shares)}")
            self._unshown.clear()
            self._timer = self._loop.call_later(1.0, self._second_is_over)


def _one_line(sql: bytes) -> str:
    # A terminal would obey what is not printable.
    head = sql[: 8 * _SQL_SHOWN].decode(errors="replace")
    text = "".join(char if char.isprintable() else " " for char in head)
    text = " ".join(text.split())
    return text if len(text) <= _SQL_SHOWN else f"{text[: _SQL_SHOWN - 1]}…"


def _config(cluster: Cluster, port: int) -> Config:
    return Config(
        # Whoever presses Ctrl-C knows who is connected, and all data is about to be removed.
        listen=Listen(host=HOST, port=port, drain_accept_seconds=0, drain_timeout=4),
        http=Http(host=HOST, port=_port_or_any(_HTTP_PORT)),
        auth=Auth(method="trust", users_file=None),
        server=Server(tls_mode="disable"),  # the embedded PostgreSQL is built without
        health=Health(user=SUPERUSER, interval=0.5),
        discovery=Discovery(
            backends=tuple(
                Backend(host=server.host, port=server.port, name=server.name)
                for server in cluster.servers
            )
        ),
    )


def _welcome(where: app.Ready, psql: str) -> str:
    status = f"http://{where.http_host}:{where.http_port}"
    return f"""
Paste this into another terminal:

    {psql} "host={where.host} port={where.port} user={SUPERUSER} dbname=postgres"

Status: {status}/status   metrics: {status}/metrics   Ctrl-C stops and removes everything.
Below: where each statement goes, why, and what it is.
"""


def _port_or_any(port: int) -> int:
    """`port` if nobody listens there, else 0: the system picks."""
    try:
        _try_port(port)
    except OSError:
        return 0
    return port


def _try_port(port: int) -> None:
    with socket.socket() as probe:
        # As servers do: the remains of ended connections shall not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))


def _clock() -> str:
    return time.strftime("%H:%M:%S")


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader has gone (`pgproxy demo | head`); the proxy may still be in use.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - to the end of the process
