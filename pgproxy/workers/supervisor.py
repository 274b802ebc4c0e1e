"""`pgproxy serve` with `listen.workers` above 1: starts the workers, and speaks for them to the outside.

It holds the ports and no client: while a worker that has ended is replaced, others accept in its place.
HTTP, the caps over all workers (quotas.py) and what one worker asks of the others go through here.
"""

import asyncio
import mmap
import os
import signal
import time
from collections.abc import Coroutine
from typing import Any, Final

import structlog

import pgproxy
from pgproxy import _compiled
from pgproxy.clients.cancel import instance_of, worker_of
from pgproxy.clients.users import Users
from pgproxy.config import Config, notices
from pgproxy.errors import PgError
from pgproxy.peers.http import routes
from pgproxy.peers.peers import Peers
from pgproxy.protocol.commands import Command
from pgproxy.relay.board import Board, board_size
from pgproxy.servers.gate import Gate
from pgproxy.servers.tls import ClientTls, ServerTls
from pgproxy.telemetry.http import HttpServer, start_http
from pgproxy.telemetry.metrics import own_families, peer_families
from pgproxy.telemetry.transfer import dump, load
from pgproxy.workers import families, rows, statuses
from pgproxy.workers.channel import Body, ChannelClosedError
from pgproxy.workers.hello import to_plain
from pgproxy.workers.member import ONE_WILL_DO, Rows
from pgproxy.workers.process import Worker
from pgproxy.workers.quotas import Order, Quotas
from pgproxy.workers.sockets import bind
from pgproxy.workers.together import together

_log = structlog.stdlib.get_logger()

# Seconds until a worker that has ended is replaced: the first, doubled up to the last as long as none
# lives for as long as the third.
FIRST_PAUSE: Final = 0.05
LAST_PAUSE: Final = 10.0
STEADY: Final = 30.0
# Seconds after the end of a process until PostgreSQL has noticed that its connections are closed.
SERVERS_NOTICE: Final = 0.5
# Seconds in which what a worker had sent to be written is done, if ever.
WRITES_END: Final = 5.0
# Seconds between looks at who is to have what others have.
QUOTA_TICK: Final = 0.02
# Seconds between looks at what the workers count, which is what is known of one that ends.
LOOK: Final = 5.0
# Seconds without an answer after which a worker is taken for dead.
SILENCE: Final = 60.0


class Supervisor:
    def __init__(self, config: Config) -> None:
        self._config: Final = config
        self._count: Final = config.listen.workers
        self._memory: Final = os.memfd_create("pgproxy", os.MFD_CLOEXEC)
        os.ftruncate(self._memory, board_size(self._count))
        self._board: Final = Board(mmap.mmap(self._memory, board_size(self._count)), 0, self._count)
        self._sockets: list[list[Any]] = []
        self._workers: Final[dict[int, Worker]] = {}  # by their numbers
        self._ids = 0
        self._quotas: Final = Quotas()
        self._contested: Final = asyncio.Event()  # somebody wants more than it has
        self._gate: Final = Gate()
        self._stop: Final = asyncio.Event()
        self._hurry: Final = asyncio.Event()
        self._all_ready: Final = asyncio.Event()
        self._restarts = 0
        self._peers: Peers | None = None
        if config.peers.are_known:
            self._peers = Peers(
                config,
                held=self._held,
                is_draining=self._stop.is_set,
                on_shares=lambda shares: self._tell_all("portions", portions=dict(shares)),
            )
        self._departed: Body = {"families": [], "rows": {}}
        self._adopters: Final[dict[int, int]] = {}  # who accepts for whom
        self._failure = 0
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    async def run(self) -> int:
        """Serves until SIGTERM or SIGINT, then all workers drain; at a second one they end at once.
        Returns the exit status. Raises OSError if a port cannot be had."""
        config = self._config
        for notice in notices(config):
            _log.warning("not_in_effect", notice=notice)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_to_stop)
        http = await self._start_http()
        try:
            self._sockets = await bind(config.listen.host, config.listen.port, self._count)
            await self._keep_all()
        finally:
            for worker in self._workers.values():
                worker.kill()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await http.close()
            _log.info("stopped")
        return self._failure

    async def _keep_all(self) -> None:
        for work in (self._announce(), self._balance(), self._watch(), self._end()):
            self._spawn(work)
        if self._peers is not None:
            self._spawn(self._know_peers(self._peers))
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._keep(number))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the life of workers ------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """Has a worker of that number, as long as the proxy runs."""
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            try:
                worker = await self._start(number)
            except OSError as error:
                if not self._all_ready.is_set():
                    raise
                _log.error("worker_not_started", worker=number, reason=str(error))
                await self._sleep(LAST_PAUSE)
                continue
            status = await worker.wait()
            self._ended(worker, status)
            if self._stop.is_set():
                return
            if time.monotonic() - worker.started_at >= STEADY:
                pause = FIRST_PAUSE
            await self._sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)
            self._restarts += 1

    async def _start(self, number: int) -> Worker:
        self._ids += 1
        worker = Worker(self._ids, number)
        hello = {
            "config": to_plain(self._config),
            "paused": [*self._gate.paused, *([""] if self._gate.everything else [])],
            "disabled": list(self._gate.disabled),
            "instance": None if self._peers is None else self._peers.instance,
        }
        await worker.start(
            hello,
            self._memory,
            self._sockets,
            told={
                "ready": lambda _: self._ready(worker),
                "claim": lambda body: self._claim(worker, body),
                "stop": lambda _: self._ask_to_stop(),
                "desert": lambda body: self._tell_others(worker, "desert", body),
                "renew": lambda body: self._tell_others(worker, "renew", body),
                "room": self._room_learned,
            },
            asked={
                "cancel": lambda body: self._cancel(worker, body),
                "rows": lambda body: self._rows(worker, body),
                "command": lambda body: self._command(worker, body),
            },
        )
        self._workers[number] = worker
        if self._peers is not None:
            worker.channel.tell("portions", portions=dict(self._peers.shares))
        if self._stop.is_set():
            worker.channel.tell("drain")
        return worker

    def _ready(self, worker: Worker) -> None:
        worker.is_ready = True
        _log.info("worker_ready", worker=worker.number, pid=worker.process.pid)
        adopter = self._adopters.pop(worker.number, None)
        if adopter is not None and adopter in self._workers:
            self._workers[adopter].channel.tell("release", worker=worker.number)
        if len(self._ready_workers()) == self._count:
            self._all_ready.set()

    def _ended(self, worker: Worker, status: int) -> None:
        number = worker.number
        del self._workers[number]
        was_ready, worker.is_ready = worker.is_ready, False
        worker.channel.close()
        self._departed = _departed([self._departed, worker.last])
        loop = asyncio.get_running_loop()
        loop.call_later(SERVERS_NOTICE, self._give_up, worker)
        if self._stop.is_set():
            if status:
                _log.error("worker_failed", worker=number, status=status)
                self._failure = 1
            return
        _log.error("worker_died", worker=number, pid=worker.process.pid, status=status)
        if not (was_ready or self._all_ready.is_set()):
            # What keeps one from its start keeps all.
            self._failure = status if status > 0 else 1
            self._ask_to_stop()
            return
        self._board.lost(number, time.monotonic() + WRITES_END)
        for orphan in [number, *(one for one, by in self._adopters.items() if by == number)]:
            self._have_adopted(orphan)

    def _have_adopted(self, number: int) -> None:
        """Another worker accepts whoever comes to the port of one that has ended."""
        others = self._ready_workers()
        if not others:
            self._adopters.pop(number, None)
            return
        adopter = others[number % len(others)]
        self._adopters[number] = adopter.number
        adopter.channel.tell("adopt", worker=number)

    def _ready_workers(self) -> list[Worker]:
        return [one for _, one in sorted(self._workers.items()) if one.is_ready]

    async def _announce(self) -> None:
        await self._all_ready.wait()
        host, port = self._sockets[0][0].getsockname()[:2]
        _log.info("listening", host=host, port=port, mode=_compiled.mode(), workers=self._count)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass

    # --- the end ------------------------------------------------------------------------------

    def _ask_to_stop(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def _end(self) -> None:
        await self._stop.wait()
        _log.info("draining", workers=len(self._workers))
        self._tell_all("drain")
        # From now on each port is its worker's alone, who closes it in its time.
        for sockets in self._sockets:
            for one in sockets:
                one.close()
        await self._hurry.wait()
        self._tell_all("drain")

    def _tell_all(self, kind: str, **body: object) -> None:
        for worker in self._workers.values():
            worker.channel.tell(kind, **body)

    # --- caps over all ------------------------------------------------------------------------

    def _claim(self, worker: Worker, body: Body) -> None:
        key = tuple(body.pop("key"))
        self._send(self._quotas.report(worker.id, key, now=time.monotonic(), **body))

    def _give_up(self, worker: Worker) -> None:
        self._send(self._quotas.leave(worker.id, time.monotonic()))

    def _send(self, orders: list[Order]) -> None:
        if self._quotas.is_contested:
            self._contested.set()
        if not orders:
            return
        workers = {worker.id: worker for worker in self._workers.values()}
        for order in orders:
            worker = workers.get(order.worker)
            if worker is not None:
                worker.channel.tell(
                    "order", key=list(order.key), order=order.kind, number=order.number
                )

    async def _balance(self) -> None:
        while True:
            await self._contested.wait()
            await asyncio.sleep(QUOTA_TICK)
            self._send(self._quotas.tick(time.monotonic()))
            if not self._quotas.is_contested:
                self._contested.clear()

    # --- other proxies ------------------------------------------------------------------------

    async def _know_peers(self, peers: Peers) -> None:
        try:
            await peers.run()
        except Exception as error:  # noqa: BLE001 - a bug: rather than without them it ends
            _log.critical("part_failed", part="peers", exc_info=error)
            self._failure = 1
            self._ask_to_stop()

    def _room_learned(self, body: Body) -> None:
        if self._peers is not None:
            self._peers.learn_room(body["backend"], body["room"])

    def _held(self) -> dict[str, int]:
        """What the workers' pools may have, or still have, by server."""
        shares = {} if self._peers is None else self._peers.shares
        return {
            name: max(share, sum(self._quotas.held(("backend", name)).values()))
            for name, share in shares.items()
        }

    # --- what one asks of the others ----------------------------------------------------------

    def _others(self, worker: Worker) -> list[Worker]:
        return [one for one in self._ready_workers() if one is not worker]

    def _tell_others(self, worker: Worker, kind: str, body: Body) -> None:
        for other in self._others(worker):
            other.channel.tell(kind, **body)

    async def _cancel(self, asker: Worker, body: Body) -> None:
        """Of one that the worker who asks has no client for."""
        pid, secret = body["pid"], bytes.fromhex(body["secret"])
        peers = self._peers
        if peers is None or instance_of(pid) == peers.instance:
            is_asked = worker_of(pid, has_peers=peers is not None) == asker.number
            if not is_asked and await self._cancel_here(pid, secret):
                return
        if peers is not None:
            await peers.cancel(pid, secret)

    async def _cancel_here(self, pid: int, secret: bytes) -> bool:
        """By the worker whose client it is for; whether there is one."""
        worker = self._workers.get(worker_of(pid, has_peers=self._peers is not None))
        if worker is None or not worker.is_ready:
            return False
        try:
            return bool(await worker.channel.ask("cancel", pid=pid, secret=secret.hex()))
        except (ChannelClosedError, PgError):
            return False  # there is nothing to cancel any more

    async def _rows(self, asker: Worker, body: Body) -> list[Rows]:
        name = body["name"]
        if name == "peers":
            return [] if self._peers is None else [self._peers.rows()]
        asked = [worker.ask("rows", name=name) for worker in self._others(asker)]
        found = [answer for answer in await asyncio.gather(*asked) if answer is not None]
        return [*found, self._departed["rows"].get(name, [])]

    async def _command(self, asker: Worker, body: Body) -> list[dict[str, str]]:
        command = Command(body["word"], body["argument"], body["tag"])
        self._note(command)
        asked = [_command_of(worker, body) for worker in self._others(asker)]
        found = await together(asked, one_will_do=command.word in ONE_WILL_DO)
        return next((notices for notices in found if notices), [])

    def _note(self, command: Command) -> None:
        """What a worker that begins later must know."""
        if command.word in ("pause", "kill"):
            self._gate.pause(command.argument)
        elif command.word == "resume":
            self._gate.resume(command.argument)
        elif command.word == "disable":
            self._gate.disabled.add(command.argument)
        elif command.word == "enable":
            self._gate.disabled.discard(command.argument)

    # --- HTTP ---------------------------------------------------------------------------------

    async def _start_http(self) -> HttpServer:
        http = await start_http(
            self._config.http.host,
            self._config.http.port,
            registry=self._registry,
            started=lambda: self._why_not("started"),
            ready=lambda: self._why_not("ready"),
            status=self._status,
            routes=() if self._peers is None else routes(self._peers.word, self._cancel_here),
        )
        _log.info("http_listening", host=http.host, port=http.port)
        return http

    async def _why_not(self, what: str) -> str | None:
        """None if one worker at least is so."""
        if what == "ready" and self._stop.is_set():
            return "draining"
        workers = self._ready_workers()
        answers = await asyncio.gather(*[worker.ask("probe") for worker in workers])
        reasons = [answer[what] for answer in answers if answer is not None]
        if None in reasons:
            return None if what != "ready" or self._peers is None else self._peers.why_not_ready
        return reasons[0] if reasons else "no worker is ready yet"

    async def _scrape(self) -> list[Worker]:
        """Has every worker tell what it counts; one that does not answer is as it was."""

        async def ask(worker: Worker) -> None:
            answer = await worker.ask("scrape", rows=rows.LASTING)
            if answer is not None:
                worker.last = answer

        workers = self._ready_workers()
        await asyncio.gather(*[ask(worker) for worker in workers])
        return workers

    async def _registry(self) -> Any:
        workers = await self._scrape()
        merged = families.merge(
            [*[worker.last["families"] for worker in workers], self._departed["families"]]
        )
        own = own_families(
            workers=len(workers),
            restarts=self._restarts,
            clients={worker.number: worker.last["clients"] for worker in workers},
        )
        others = () if self._peers is None else peer_families(self._peers)
        return load([*merged, *dump(own), *dump(others)])

    async def _watch(self) -> None:
        """Knows what the workers count in case that they end, and ends those that hang."""
        while True:
            await asyncio.sleep(LOOK)
            for worker in await self._scrape():
                if time.monotonic() - worker.answered_at > SILENCE:
                    _log.error("worker_hangs", worker=worker.number, pid=worker.process.pid)
                    worker.kill()

    async def _status(self) -> dict[str, object]:
        workers = self._ready_workers()
        answers = await asyncio.gather(*[worker.ask("status") for worker in workers])
        found = [answer for answer in answers if answer is not None]
        merged = statuses.merge(found)
        merged["version"] = pgproxy.__version__
        merged["draining"] = self._stop.is_set()
        merged["peers"] = {} if self._peers is None else self._peers.status()
        merged["restarts"] = self._restarts
        merged["workers"] = [
            {"number": worker.number, "pid": worker.process.pid, "clients": answer["clients"]}
            for worker, answer in zip(workers, answers, strict=True)
            if answer is not None
        ]
        return merged


def _departed(ones: list[Body]) -> Body:
    """What those who have ended have counted."""
    return {
        "families": families.merge([families.lasting(one["families"]) for one in ones]),
        "rows": {
            name: rows.merge(name, [rows.lasting(name, one["rows"].get(name, [])) for one in ones])
            for name in rows.LASTING
        },
    }


async def _command_of(worker: Worker, body: Body) -> list[dict[str, str]]:
    try:
        notices: list[dict[str, str]] = await worker.channel.ask("command", **body)
    except ChannelClosedError:  # with all that the command was for
        return []
    return notices


async def supervise(config: Config) -> int:
    """Runs the proxy until it is told to stop; returns the exit status."""
    # Their faults are told once.
    Users(config.auth, os.environ)
    ClientTls(config.listen)
    ServerTls(config.server)
    return await Supervisor(config).run()
