"""A worker's ties to the others: the same process as without them, but that the supervisor speaks for
all to the outside, and that some questions are everybody's.

Caps: claims.py. Cancel requests and the admin console: asked of the others through the supervisor.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from pgproxy.clients.admin import Admin, Patient
from pgproxy.clients.cancel import CancelKeys
from pgproxy.clients.console import Console
from pgproxy.clients.drain import Drain
from pgproxy.clients.listener import Listener
from pgproxy.errors import PgError
from pgproxy.frames.table import Value
from pgproxy.protocol.commands import Command
from pgproxy.relay.board import Board
from pgproxy.servers.gate import Gate
from pgproxy.workers import rows as tables
from pgproxy.workers.channel import Body, Channel, ChannelClosedError, fields
from pgproxy.workers.claims import Claims, Source
from pgproxy.workers.together import together

_log = structlog.stdlib.get_logger()

Rows = list[list[Value]]

# Seconds between looks for what is owed to other workers and not used any more.
PAY_INTERVAL: Final = 0.005
# Seconds after which what was not used is given back.
IDLE: Final = 1.0
# Seconds that clients have to end their transactions when the supervisor is gone.
ORPHANED: Final = 5.0
# Seconds between looks whether the user of the console still waits.
LOOK: Final = 0.05

# Commands that are done if one worker has done them: another has no such client, or has not paused yet.
ONE_WILL_DO: Final = frozenset({"kill_client", "resume"})


class Parts:
    """What a member needs of its own process. `collect`, `status`, `started` and `ready` are those of
    the HTTP port."""

    def __init__(
        self,
        *,
        gate: Gate,
        console: Console,
        admin: Admin,
        keys: CancelKeys,
        drain: Drain,
        listener: Listener,
        collect: Callable[[], list[Body]],
        status: Callable[[], dict[str, object]],
        started: Callable[[], str | None],
        ready: Callable[[], str | None],
        desert: Callable[[str], None],
        renew: Callable[[], None],
        take_portions: Callable[[dict[str, int]], None],
    ) -> None:
        self.gate: Final = gate
        self.console: Final = console
        self.admin: Final = admin
        self.keys: Final = keys
        self.drain: Final = drain
        self.listener: Final = listener
        self.collect: Final = collect
        self.status: Final = status
        self.started: Final = started
        self.ready: Final = ready
        self.desert: Final = desert
        self.renew: Final = renew
        self.take_portions: Final = take_portions


class Member:
    """`sockets` are those of all workers, in the order of their numbers."""

    def __init__(
        self, number: int, sockets: Sequence[Sequence[socket.socket]], memory: Any
    ) -> None:
        self.number: Final = number
        self.workers: Final = len(sockets)
        self.board: Final = Board(memory, number, self.workers)
        self.gate: Final = Gate()  # what the operator has paused or disabled before
        self._hello: Final[asyncio.Future[Body]] = asyncio.get_running_loop().create_future()
        self._sockets: Final = [list(some) for some in sockets]
        self._adopted: Final[dict[int, list[socket.socket]]] = {}
        self._channel: Final = Channel(
            told={
                "hello": self._greeted,
                "order": self._order,
                "drain": lambda _: self._drain(),
                "adopt": self._adopt,
                "release": self._release,
                "desert": lambda body: self._own.desert(body["database"]),
                "renew": lambda _: self._own.renew(),
                "portions": self._portions_changed,
            },
            asked={
                "cancel": self._cancel_here,
                "rows": self._rows_here,
                "command": self._run_here,
                "scrape": self._scrape,
                "status": self._status,
                "probe": self._probe,
            },
            on_end=self._orphaned,
        )
        self.claims: Final = Claims(lambda word: self._channel.tell("claim", **word))
        self._parts: Parts | None = None
        self.instance: int | None = None  # the proxy's among others, if there may be others
        self._portions: dict[str, int] = {}
        self._is_to_drain = False
        self._has_ended = False

    async def join(self, end: socket.socket) -> Any:
        """Meets the supervisor; returns the configuration (hello.py)."""
        await self._channel.open(end)
        hello = await self._hello
        self.gate.everything = "" in hello["paused"]
        self.gate.paused.update(name for name in hello["paused"] if name)
        self.gate.disabled.update(hello["disabled"])
        self.instance = hello["instance"]
        return hello["config"]

    # --- for its own process ------------------------------------------------------------------

    def take_part(self, parts: Parts) -> None:
        self._parts = parts
        parts.take_portions(self._portions)
        if self._is_to_drain:
            self._drain()

    def open_port(self) -> None:
        """Accepts clients from now on."""
        self._accept_from(self.number)
        self._channel.tell("ready")

    def stop(self) -> None:
        """Somebody wants the whole proxy to end."""
        self._channel.tell("stop")

    def desert(self, database: str) -> None:
        """A database is about to be dropped, and no other worker is to idle there."""
        self._channel.tell("desert", database=database)

    def renew(self) -> None:
        """The defaults of roles or databases have changed."""
        self._channel.tell("renew")

    def learn_room(self, backend: str, room: int) -> None:
        """So many connections of ordinary users a server takes."""
        self._channel.tell("room", backend=backend, room=room)

    async def cancel(self, pid: int, secret: bytes) -> None:
        """A CancelRequest for a client of another worker or proxy; returns when it has had its effect."""
        with contextlib.suppress(
            PgError, ChannelClosedError
        ):  # there is nothing to cancel any more
            await self._channel.ask("cancel", pid=pid, secret=secret.hex())

    def look(self, source: Source) -> None:
        """Something that counts against a cap of all workers has changed."""
        self.claims.look(source)

    async def run(self) -> None:
        """What happens because time passes."""
        ticked = time.monotonic()
        while True:
            await asyncio.sleep(PAY_INTERVAL if self.claims.owes else LOOK)
            self.claims.pay()
            now = time.monotonic()
            if now - ticked >= IDLE:
                ticked = now
                self.claims.tick()

    async def close(self) -> None:
        self._has_ended = True
        self._channel.close()

    # --- for the console (clients/console.py, Elsewhere) --------------------------------------

    async def merge(self, name: str, rows: Rows) -> Rows:
        others: list[Rows] = await self._channel.ask("rows", name=name)
        return tables.merge(name, [rows, *others])

    async def join_rows(self, name: str, rows: Rows) -> Rows:
        merged = await self.merge(name, rows)
        if name != "lists":
            return merged
        console = self._own.console
        found = {}
        for counted in tables.COUNTED:
            found[counted] = len(await self.merge(counted, await console.rows(counted)))
        return tables.counted(merged, found)

    async def run_command(self, command: Command, patient: Patient) -> list[PgError]:
        admin = self._own.admin
        is_refused = command.word == "pause" and self._own.gate.has(command.argument)
        if is_refused or command.word == "shutdown":  # which is told the supervisor
            return await admin.run(command, patient)
        here = admin.run(command, patient)
        there = self._run_elsewhere(command)
        try:
            found = await together(
                [here, there], one_will_do=command.word in ONE_WILL_DO, check=patient.check
            )
        except BaseException:
            if command.word == "pause":  # perhaps some have come to rest
                await self._resume(command.argument)
            raise
        return next((notices for notices in found if notices), [])

    async def _run_elsewhere(self, command: Command) -> list[PgError]:
        notices = await self._channel.ask(
            "command", word=command.word, argument=command.argument, tag=command.tag
        )
        return [PgError(**notice) for notice in notices]

    async def _resume(self, database: str) -> None:
        command = Command("resume", database, "RESUME")
        await asyncio.shield(
            asyncio.gather(
                self._own.admin.run(command, _Patience()),
                self._run_elsewhere(command),
                return_exceptions=True,
            )
        )

    # --- told and asked by the supervisor -----------------------------------------------------

    @property
    def _own(self) -> Parts:
        assert self._parts is not None
        return self._parts

    def _greeted(self, body: Body) -> None:
        self._hello.set_result(body)

    def _order(self, body: Body) -> None:
        self.claims.order(tuple(body["key"]), body["order"], body["number"])

    def _drain(self) -> None:
        self._is_to_drain = True
        self._close_sockets()
        if self._parts is not None:
            self._parts.drain.ask()

    def _adopt(self, body: Body) -> None:
        """Serves whoever has come to a worker that has ended, until it is there again."""
        if not self._own.drain.draining:
            self._adopted[body["worker"]] = self._accept_from(body["worker"])

    def _release(self, body: Body) -> None:
        self._own.listener.port.leave(self._adopted.pop(body["worker"], ()))

    def _accept_from(self, number: int) -> list[socket.socket]:
        # The port closes what it is given.
        sockets = [one.dup() for one in self._sockets[number]]
        self._own.listener.port.accept_from(sockets)
        return sockets

    def _portions_changed(self, body: Body) -> None:
        self._portions = body["portions"]
        if self._parts is not None:
            self._parts.take_portions(self._portions)

    async def _cancel_here(self, body: Body) -> bool:
        return await self._own.keys.cancel_here(body["pid"], bytes.fromhex(body["secret"]))

    async def _rows_here(self, body: Body) -> Rows:
        return await self._own.console.rows(body["name"])

    async def _run_here(self, body: Body) -> list[dict[str, str]]:
        command = Command(body["word"], body["argument"], body["tag"])
        notices = await self._own.admin.run(command, _Patience())
        return [fields(notice) for notice in notices]

    async def _scrape(self, body: Body) -> Body:
        """`rows` names what of the console is wanted too."""
        own = self._own
        rows = {name: await own.console.rows(name) for name in body["rows"]}
        return {"families": own.collect(), "rows": rows, "clients": len(own.listener.clients)}

    async def _status(self, _body: Body) -> dict[str, object]:
        return self._own.status()

    async def _probe(self, _body: Body) -> Body:
        return {"started": self._own.started(), "ready": self._own.ready()}

    # --- its end ------------------------------------------------------------------------------

    def _orphaned(self) -> None:
        """The supervisor has ended: nobody knows of this process any more."""
        if not self._hello.done():
            self._hello.set_exception(ConnectionError("the supervisor has ended"))
            return
        if self._has_ended:
            return
        self._has_ended = True
        _log.error("supervisor_lost", seconds=ORPHANED)
        if self._parts is not None:
            self._parts.drain.shorten(ORPHANED)
        self._drain()
        asyncio.get_running_loop().call_later(ORPHANED, self._drain)

    def _close_sockets(self) -> None:
        """So that a port is closed when the one who accepts from it closes it."""
        for sockets in self._sockets:
            for one in sockets:
                one.close()
            sockets.clear()


class _Patience:
    """Of the one who has asked elsewhere: this task is cancelled when it ends."""

    def check(self) -> None:
        pass
