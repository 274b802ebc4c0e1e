"""What the commands of the admin console do: PgBouncer's, with what this proxy is made of.

A command either is done when `run` returns, or raises `PgError` and has done nothing. Those that
wait (PAUSE, WAIT_CLOSE) look again every `LOOK` seconds, for ledgers are PURE and tell nobody.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from pgproxy.clients.drain import Drain
from pgproxy.clients.listener import Listener
from pgproxy.clients.users import Users
from pgproxy.config import CONSOLE_DATABASES
from pgproxy.errors import (
    ADMIN_SHUTDOWN,
    CONFIG_FILE_ERROR,
    FEATURE_NOT_SUPPORTED,
    NOT_IN_PREREQUISITE_STATE,
    SUCCESS,
    UNDEFINED_OBJECT,
    PgError,
)
from pgproxy.protocol.commands import Command, unknown
from pgproxy.servers.cluster import Cluster

# Seconds between looks at what is waited for.
LOOK: Final = 0.02

KILLED: Final = PgError(
    ADMIN_SHUTDOWN,
    "terminating connection due to administrator command",
    severity="FATAL",
    detail="KILL or KILL_CLIENT was given in the admin console.",
)


class Patient(Protocol):
    """Who waits for a command. `check` raises once it does not any more."""

    def check(self) -> None: ...


class Admin:
    """`kill_visitor` ends a session of the console itself, and says whether there is such a one;
    `stop` begins the drain."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        listener: Listener,
        drain: Drain,
        users: Users,
        kill_visitor: Callable[[int], bool],
        stop: Callable[[], None],
    ) -> None:
        self._cluster: Final = cluster
        self._listener: Final = listener
        self._drain: Final = drain
        self._users: Final = users
        self._kill_visitor: Final = kill_visitor
        self._stop: Final = stop

    async def run(self, command: Command, patient: Patient) -> list[PgError]:
        """Does it; returns the notices. Raises `PgError`, and what `patient` raises."""
        word, name = command.word, command.argument
        if name in CONSOLE_DATABASES and word != "kill_client":
            raise PgError(
                FEATURE_NOT_SUPPORTED,
                f"{command.tag} is not for the admin console",
                detail=f'"{name}" has no server connections.',
            )
        if word == "suspend":
            raise PgError(
                FEATURE_NOT_SUPPORTED,
                "SUSPEND is not supported",
                detail="It is for handing sockets to another process, which this proxy does not do.",
                hint="A rolling restart needs only SHUTDOWN, or SIGTERM.",
            )
        if word == "pause":
            await self._pause(name, patient)
        elif word == "wait_close":
            await _until(lambda: not self._is_closing(name), patient)
        else:
            return self._at_once(command)
        return []

    def _at_once(self, command: Command) -> list[PgError]:
        word, name = command.word, command.argument
        if word == "resume":
            self._resume(name)
        elif word == "reconnect":
            for group in self._cluster.groups_of(name):
                for pool in group.pools.values():
                    pool.drain()
        elif word == "kill":
            self._kill(name)
        elif word == "kill_client":
            self._kill_client(name)
        elif word == "disable":
            self._cluster.gate.disabled.add(name)
        elif word == "enable":
            self._cluster.gate.disabled.discard(name)
        elif word == "reload":
            return self._reload()
        elif word == "shutdown":
            if name.upper() not in ("", "WAIT_FOR_CLIENTS", "WAIT_FOR_SERVERS"):
                raise unknown(f"SHUTDOWN {name}")
            self._not_draining()
            self._stop()
        else:
            raise unknown(command.tag)
        return []

    async def _pause(self, database: str, patient: Patient) -> None:
        gate = self._cluster.gate
        self._not_draining()
        if gate.has(database):
            raise PgError(NOT_IN_PREREQUISITE_STATE, "already paused")
        self._cluster.pause(database)

        def is_quiet() -> bool:
            if not (database in gate.paused if database else gate.everything):
                raise PgError("57014", "RESUME came before everything had come to rest")
            return not any(
                pool.ledger.total
                for group in self._cluster.groups_of(database)
                for pool in group.pools.values()
            )

        try:
            await _until(is_quiet, patient)
        except BaseException:
            # Who gives up the wait does not want clients to be held for ever.
            self._cluster.resume(database)
            raise

    def _resume(self, database: str) -> None:
        gate = self._cluster.gate
        if database and database not in gate.paused:
            raise PgError(NOT_IN_PREREQUISITE_STATE, f'database "{database}" is not paused')
        if not database and not gate.everything and not gate.paused:
            raise PgError(NOT_IN_PREREQUISITE_STATE, "nothing is paused")
        self._cluster.resume(database)

    def _kill(self, database: str) -> None:
        """As in PgBouncer: who comes after it waits for RESUME."""
        self._not_draining()
        self._cluster.pause(database)
        for client in list(self._listener.clients):
            if client.relay is not None and database in ("", client.database):
                client.relay.fail(KILLED)

    def _kill_client(self, text: str) -> None:
        number = int(text) if text.isascii() and text.isdigit() else 0
        for client in self._listener.clients:
            if client.pid == number and client.relay is not None:
                client.relay.fail(KILLED)
                return
        if not self._kill_visitor(number):
            raise PgError(
                UNDEFINED_OBJECT, f"there is no client {text}", hint="SHOW CLIENTS has their ids."
            )

    def _reload(self) -> list[PgError]:
        fault = self._users.refresh()
        if fault:
            raise PgError(
                CONFIG_FILE_ERROR,
                "the list of users cannot be used",
                detail=f"{fault}. What was read before stays in force.",
            )
        return [
            PgError(
                SUCCESS,
                "the list of users is up to date; nothing else is reloaded",
                severity="NOTICE",
                detail=(
                    "Password files are read anew for each connection. Every other key of the"
                    " configuration needs a restart."
                ),
            )
        ]

    def _is_closing(self, database: str) -> bool:
        return any(
            server.doomed
            for group in self._cluster.groups_of(database)
            for pool in group.pools.values()
            for server in pool.servers
        )

    def _not_draining(self) -> None:
        if self._drain.draining:
            raise PgError(NOT_IN_PREREQUISITE_STATE, "the proxy is shutting down")


async def _until(is_done: Callable[[], bool], patient: Patient) -> None:
    while not is_done():
        patient.check()
        await asyncio.sleep(LOOK)
