"""Whatever clients, servers and the operator do, in whatever order: no cap is exceeded, nothing is leased
twice or runs without a seat, nobody sleeps beside what would do, and in the end nothing is held."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.protocol.states import GONE, LEASED, WAITING
from pgproxy.servers.backend import Backend
from pgproxy.servers.connection import ServerConnection
from pgproxy.servers.limiter import SEATED
from pgproxy.servers.pool import Pool
from pgproxy.servers.seats import ServerSeat
from pgproxy.servers.sizes import PoolSizes
from pgproxy.servers.slots import CLOSED, CLOSING, NEW, RESETTING
from pgproxy.servers.slots import LEASED as LEASED_PLACE
from tests.playbooks import stage as playbooks
from tests.playbooks.stage import COMMITTED, FAILED, IDLE, IN_BLOCK, Client, Stage, Transport
from tests.support.wire import query

READY: Final = {b"I": IDLE, b"T": IN_BLOCK, b"E": FAILED}
TEXTS: Final = (
    "SELECT 1",
    "INSERT INTO t VALUES (1)",
    "INSERT INTO t VALUES (1);" * 3,
    "BEGIN",
    "COMMIT",
    "CREATE TEMP TABLE x (i int)",
    "SELECT nextval('s')",
    "SELECT currval('s')",
    "DISCARD ALL",
    "SELECT pg_advisory_lock(1)",
)
REFUSALS: Final = (
    None,
    None,
    PgError("53300", "busy", severity="FATAL"),
    PgError("3D000", "no such database", severity="FATAL"),
)
ANSWERS: Final = {
    "BEGIN": playbooks.BEGUN,
    "START": playbooks.BEGUN,
    "COMMIT": COMMITTED,
    "ROLLBACK": playbooks.ROLLED_BACK,
    "SELECT": playbooks.SELECTED,
    "INSERT": playbooks.INSERTED,
    "CREATE": playbooks.CREATED,
}
BLOCKS: Final = {"BEGIN": b"T", "START": b"T", "COMMIT": b"I", "ROLLBACK": b"I"}


class Session(Transport):
    """A server's side of a connection: answers one message after the other, when told to."""

    stage: "Hall"

    def __init__(self, stage: "Hall") -> None:
        super().__init__(stage)
        self.status = b"I"
        self.has_ended = False  # what it can read
        self.todo = b""

    def write(self, data: bytes) -> None:
        if self.closed or self.has_ended:
            return
        self.todo += data
        if self.todo == write.TERMINATE and not self.stage.lingering:
            self.close()

    def write_eof(self) -> None:
        self.has_ended = True
        if not self.todo and not self.stage.lingering:
            self.close()

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def has_work(self) -> bool:
        return not self.closed and (self.todo != b"" or self.has_ended)

    def answer(self) -> None:
        size = int.from_bytes(self.todo[1:5], "big") + 1
        frame, self.todo = self.todo[:size], self.todo[size:]
        if frame[:1] in (b"", b"X"):
            self.close()
            return
        said = b""
        for text in filter(None, map(str.strip, frame[5:-1].decode().split(";"))):
            word = text.split()[0].upper()
            self.status = BLOCKS.get(word, self.status)
            said += ANSWERS.get(word, write.command_complete(word.encode()))
        self.protocol.data_received((said or write.frame(ord("I"), b"")) + READY[self.status])


class Hall(Stage):
    """A stage whose time is `now`, and whose log-ins ask a question."""

    def __init__(self, now: list[float], **kinds: Any) -> None:
        self.now = now
        self.lingering = False  # servers do not notice that a client has gone
        self.ever: set[Pool] = set()
        super().__init__(**kinds)

    def time_passes(self, seconds: float) -> None:
        self.now[0] += seconds
        self.cluster.context.clock.now = self.now[0]
        self.cluster.tick(self.now[0])
        self.settle()

    async def _open(self, server: ServerConnection, database: str, user: str) -> None:
        while not self.logins_end:
            await playbooks._Pause()
        if self.refuses is not None:
            raise self.refuses
        called: list[bool] = []
        try:
            if not server.keeper.may_ask(server, lambda _error: called.append(True)):
                while not called:
                    await playbooks._Pause()
            assert server.seat is None or server.seat.state == SEATED, "asks without a seat"
        finally:
            server.keeper.has_asked(server)
        session = Session(self)
        place = self.servers[server.backend.name]
        place.connections.append((server, session))
        server.adopt(session, len(place.connections), b"secret")

    @property
    def sessions(self) -> list[tuple[ServerConnection, Session]]:
        found = []
        for party in self.servers.values():
            for server, session in party.connections:
                assert isinstance(session, Session)
                found.append((server, session))
        return found

    @property
    def present(self) -> list[Client]:
        return [client for client in self.clients if not client.own_transport.closed]

    # --- what must hold at any moment

    def check(self) -> None:
        self.time_passes(0)
        self.ever.update(self.pools)
        self._check_counts()
        self._check_seats()
        leased = [one.relay.server for one in self.clients if one.relay.server is not None]
        assert len(set(leased)) == len(leased), "leased twice"
        for client in self.clients:
            relay = client.relay
            assert relay.server is None or relay.server.owner is relay
            sheltered = any(entry.waiter is relay for entry in self.cluster.homeless)
            assert (relay.phase == WAITING) == (relay.is_waiting or sheltered), "a lost waiter"

    def _check_counts(self) -> None:
        loads: Counter[Backend] = Counter()
        waiting = 0
        places = Counter(
            server.keeper for server, _ in self.sessions if server.place not in (NEW, CLOSED)
        )
        for pool in self.ever:
            ledger = pool.ledger
            if not ledger.closed_for_good:
                ledger.check()
            waiting += pool.waiting
            loads[pool.backend] += int(ledger.leased + ledger.waiting)
            assert not ledger.to_open
            assert not ledger.to_close
            assert ledger.total - ledger.opening == places[pool]
        assert self.cluster.context.queue.limit.used == waiting
        for backend, load in loads.items():
            assert backend.load == load
            backend.budget.check(self.now[0])

    def _check_seats(self) -> None:
        if self.limiter is None:
            return
        self.limiter.check()
        seated: Counter[Backend] = Counter()
        for server, session in self.sessions:
            seat = server.seat
            assert isinstance(seat, ServerSeat)
            has_one = seat.state == SEATED
            assert has_one != server.needs_seat
            assert has_one or session.closed or session.todo in (b"", write.TERMINATE), "no seat"
            assert not has_one or server.place in (LEASED_PLACE, RESETTING, CLOSING)
            seated[server.backend] += has_one
        for backend, count in seated.items():
            assert backend.running.used == count
        there = [count for backend, count in seated.items() if not backend.is_away]
        assert self.limiter.total.used == sum(there)


class Play:
    """What happens, at random."""

    def __init__(self, seed: int, now: list[float]) -> None:
        rnd = self.rnd = random.Random(seed)
        self.hall = Hall(
            now,
            replicas=rnd.choice([0, 1, 2]),
            mode=rnd.choice(["transaction", "transaction", "session", "statement"]),
            max_concurrent=rnd.choice([0, 1, 2, 3]),
            max_concurrent_per_backend=rnd.choice([0, 1, 2]),
            queue_size=rnd.choice([0, 0, 1, 2, 4]),
            max_logins=rnd.choice([1, 8]),
            watermark=rnd.choice(["off", "session"]),
            reserve_timeout=1.0,
            sizes=PoolSizes(
                rnd.choice([1, 2, 3]),
                min_size=rnd.choice([0, 1]),
                reserve_size=rnd.choice([0, 0, 1]),
                max_backend=rnd.choice([0, 1, 2, 3]),
                max_database=rnd.choice([0, 0, 2]),
            ),
        )
        self.names = list(self.hall.servers)
        for _ in range(rnd.choice([2, 8, 12])):
            self.comes()

    @property
    def acts(self) -> dict[Callable[[], None], int]:
        often = {self.comes: 1, self.asks: 30, self.answers: 20, self.time_passes: 2}
        seldom = (
            self.leaves, self.cancels, self.dies, self.changes_roles, self.pauses, self.resumes,
            self.changes_caps, self.learns_room, self.timers, self.lingers, self.log_ins_hang,
            self.cancels_hang, self.refuses, self.retires, self.drains, self.renews,
        )  # fmt: skip
        return often | {act: self.rnd.choice([0, 0, 1, 3]) for act in seldom}

    def comes(self) -> None:
        hall = self.hall
        if len(hall.clients) < 14:
            who = self.rnd.choice([("d", "u"), ("d", "v"), ("e", "u")])
            hall.group = hall.cluster.group(*who)
            hall.client(name=self.rnd.choice([b"", b"", b"n"]))

    def asks(self) -> None:
        if self.hall.present:
            client = self.rnd.choice(self.hall.present)
            client >> query(self.rnd.choice(TEXTS)) * self.rnd.choice([1, 1, 1, 2, 3])

    def answers(self) -> None:
        busy = [session for _, session in self.hall.sessions if session.has_work and session.todo]
        if busy:
            self.rnd.choice(busy).answer()
            self.hall.settle()

    def leaves(self) -> None:
        if self.hall.present:
            client = self.rnd.choice(self.hall.present)
            if self.rnd.random() < 0.5:
                client >> write.TERMINATE
            else:
                client.leaves()

    def cancels(self) -> None:
        if self.hall.present:
            relay = self.rnd.choice(self.hall.present).relay
            if relay.phase != GONE:
                relay.cancels.ask()

    def dies(self) -> None:
        alive = [session for _, session in self.hall.sessions if not session.closed]
        if alive:
            self.rnd.choice(alive).close()

    def changes_roles(self) -> None:
        primary = self.rnd.choice([*self.names, ""])
        dead = self.rnd.sample(self.names, self.rnd.choice([0, 0, 1]))
        others = [name for name in self.names if name not in (primary, *dead)]
        self.hall.topology(primary, *others, dead=tuple(one for one in dead if one != primary))

    def time_passes(self) -> None:
        self.hall.time_passes(self.rnd.choice([2, 40]))

    def pauses(self) -> None:
        self.hall.cluster.pause(self.rnd.choice(["", "d"]))

    def resumes(self) -> None:
        self.hall.cluster.resume("")

    def changes_caps(self) -> None:
        limiter = self.hall.limiter
        if limiter is not None:
            for limit in [limiter.total, *[one.running for one in self.backends]]:
                limit.cap = self.rnd.choice([1, 2, 1 << 31])
            limiter.serve(time.monotonic())

    @property
    def backends(self) -> list[Backend]:
        return list(self.hall.cluster.backends.values())

    def learns_room(self) -> None:
        self.hall.cluster.learn_room(self.rnd.choice(self.names), self.rnd.choice([0, 5, 6]))

    def timers(self) -> None:
        self.hall.timers_fire()

    def lingers(self) -> None:
        self.hall.lingering = not self.hall.lingering

    def log_ins_hang(self) -> None:
        self.hall.logins_end = not self.hall.logins_end

    def cancels_hang(self) -> None:
        self.hall.cancels_arrive = not self.hall.cancels_arrive

    def refuses(self) -> None:
        self.hall.refuses = self.rnd.choice(REFUSALS)

    def retires(self) -> None:
        self.hall.cluster.retire(time.monotonic())

    def drains(self) -> None:
        if self.hall.pools:
            self.rnd.choice(self.hall.pools).drain()

    def renews(self) -> None:
        self.hall.cluster.renew()

    # --- the play

    def goes_on(self) -> None:
        acts = self.acts
        for act in self.rnd.choices(list(acts), list(acts.values()), k=self.rnd.choice([30, 80])):
            act()
            self.hall.settle()
            self.hall.time_passes(self.rnd.choice([0, 0.001, 0.03, 0.2]))
            self.hall.check()

    def heals(self) -> None:
        """Whatever was wrong is right again, with little room; then everybody is served."""
        hall = self.hall
        hall.lingering = False
        hall.logins_end = hall.cancels_arrive = True
        hall.refuses = None
        for name in self.names:
            hall.cluster.learn_room(name, 0)
        hall.cluster.resume("")
        hall.topology(*self.names)
        if hall.limiter is not None:
            for limit in [hall.limiter.total, *[one.running for one in self.backends]]:
                limit.cap = 1
            hall.limiter.serve(time.monotonic())
        for turn in range(400):
            is_quiet = not self.works()
            waiting = [client for client in hall.present if client.relay.phase == WAITING]
            if not waiting and is_quiet:
                return
            pinned = [one for one in hall.present if one.relay.pinning.pin is not None]
            if turn > 30 and is_quiet and pinned:
                pinned[0].leaves()  # and gives back what the others wait for
        assert not waiting, f"never served: {waiting}"

    def works(self) -> bool:
        """Servers answer, open transactions end. Whether anything was to be done."""
        hall = self.hall
        hall.timers_fire()
        hall.time_passes(0.2)
        busy = [session for _, session in hall.sessions if session.has_work]
        for session in busy:
            if not session.closed:
                session.answer()
                hall.settle()
        open_ones = [
            client
            for client in hall.present
            if client.relay.phase == LEASED
            and client.relay.inflight.settled
            and client.relay.front.status in b"TE"
        ]
        for client in open_ones:
            client >> query("COMMIT")
        hall.check()
        return len(busy) + len(open_ones) > 0

    def ends(self) -> None:
        hall = self.hall
        for client in hall.present:
            client.leaves()
        for _ in range(60):
            self.works()
        for pool in hall.ever:
            ledger = pool.ledger
            held = (ledger.leased, ledger.resetting, ledger.waiting, ledger.closing, ledger.opening)
            assert held == (0, 0, 0, 0, 0)
            assert len(pool.leftovers) == 0
        if hall.limiter is not None:
            assert (hall.limiter.total.used, hall.limiter.waiting) == (0, 0)
        assert not hall.tasks


@pytest.fixture(scope="module")
def now() -> Iterator[list[float]]:
    with pytest.MonkeyPatch.context() as patch:
        seconds = [1000.0]
        patch.setattr(time, "monotonic", lambda: seconds[0])
        yield seconds


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 40))
def test_nothing_is_exceeded_forgotten_or_held(now: list[float], seed: int) -> None:
    play = Play(seed, now)
    play.goes_on()
    play.heals()
    play.ends()
