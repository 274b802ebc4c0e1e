"""Ten thousand clients (one thousand in `make test`), each with settings, a channel and prepared
statements of its own, on twenty server connections: each gets what is its own, nothing of another's.

All have the same names for their statements (of the protocol and of SQL) and for their settings. What the proxy's memory
grows by for each is logged: see it with `pytest --log-cli-level=INFO`.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, Final, TypeVar

import pytest

import pgproxy._compiled
from pgproxy.embedded import Cluster, Server
from tests.support.descriptors import descriptors_for
from tests.support.proxy import ProxyProcess
from tests.support.wire import SYNC, Frame, Wire, bind, errors, execute, parse, query, rows

pytestmark = pytest.mark.once

MOST: Final = 10_000
SIZE: Final = 20
SCHEMAS: Final = 10
GROUPS: Final = 50  # channels that several listen to
ROUNDS: Final = 2
AT_ONCE: Final = 200  # connections being made: no more than a listen queue holds anywhere
KIB: Final = 1024

LOG: Final = logging.getLogger(__name__)
T = TypeVar("T")

Note = tuple[int, str, str]  # process id of who notified, channel, payload

# By what they are for: whoever works for clients (under the names that those have given themselves:
# none), and who listens for all of them.
SESSIONS: Final = (
    "SELECT count(*) FILTER (WHERE application_name = ''),"
    " count(*) FILTER (WHERE application_name = 'pgproxy listening')"
    " FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = '{}'"
)


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    with descriptors_for(MOST):
        yield


@pytest.fixture
def database(cluster: Cluster, fresh_database: str) -> str:
    """A table of one name in ten schemas, and one for what the clients write."""
    for number in range(SCHEMAS):
        cluster.primary.psql(
            f"CREATE SCHEMA s{number}; CREATE TABLE s{number}.place AS SELECT 's{number}' AS name",
            fresh_database,
        )
    cluster.primary.psql(
        "CREATE TABLE visits (client int, who text, memory text, place text)", fresh_database
    )
    cluster.wait_caught_up()
    return fresh_database


class Member:
    """One client, and all that it must be told."""

    def __init__(self, number: int, wire: Wire) -> None:
        self.number: Final = number
        self.wire: Final = wire
        self.who: Final = f"client {number}".encode()
        self.memory: Final = b"%dkB" % (2 * number + 100_001)  # odd: told in kB
        self.place: Final = f"s{number % SCHEMAS}".encode()
        self.more: Final = b"more %d" % number if number % 1000 == 7 else None  # few have it
        self.channel: Final = f"own_{number}" if number % 2 == 0 else f"shared_{number % GROUPS}"
        # A text of its own, or one that half of all have, which means another table for each.
        self.constant: Final = number if number % 4 < 2 else 0
        self.heard: list[Note] = []
        self.expected: list[Note] = []

    @property
    def pid(self) -> int:
        """Under which others hear of it."""
        return self.wire.key()[0]

    async def ask(self, *messages: bytes, ready: int = 1) -> list[Frame]:
        """The answers, notifications apart."""
        frames = await self.wire.ask(*messages, ready=ready)
        assert errors(frames) == [], self.number
        return [frame for frame in frames if not self._hears(frame)]

    def _hears(self, frame: Frame) -> bool:
        kind, body = frame
        if kind == b"A":
            channel, payload, _ = body[4:].split(b"\0")
            self.heard.append((int.from_bytes(body[:4]), channel.decode(), payload.decode()))
        return kind == b"A"

    async def listen_until_told(self) -> None:
        """Read what is still to come."""
        while len(self.heard) < len(self.expected):
            assert self._hears(await self.wire.read()), self.number

    async def begin(self) -> None:
        """Settings, channel and statement."""
        await self.ask(query(f"SET work_mem = '{self.memory.decode()}'"))
        await self.ask(query(f"SET search_path = {self.place.decode()}, public"))
        await self.ask(query(f"SELECT set_config('app.who', '{self.who.decode()}', false)"))
        if self.more is not None:
            await self.ask(query(f"SET app.more = '{self.more.decode()}'"))
        await self.ask(query(f"LISTEN {self.channel}"))
        text = (
            f"SELECT {self.constant} + $1::int, name, current_setting('work_mem'),"
            " current_setting('app.who') FROM place"
        )
        await self.ask(parse(text, name="mine"), SYNC)
        await self.ask(
            query(
                f"PREPARE own (int) AS SELECT {self.constant} * $1, name,"
                " current_setting('app.who') FROM place"
            )
        )

    async def see_settings(self) -> None:
        """On a replica."""
        frames = await self.ask(
            query(
                "SELECT current_setting('work_mem'), current_setting('app.who'),"
                " current_setting('app.more', true), current_schema(), pg_is_in_recovery()"
            )
        )
        (answer,) = rows(frames)
        # Once somebody has set it, a setting of that name is there for good, and empty.
        assert answer[:4] == [self.memory, self.who, self.more, self.place], self.number

    async def execute(self, value: int) -> None:
        """The statement that the protocol has prepared, and the one that SQL has."""
        frames = await self.ask(bind(b"%d" % value, statement="mine"), execute(), SYNC)
        expected = [b"%d" % (self.constant + value), self.place, self.memory, self.who]
        assert rows(frames) == [expected], self.number
        frames = await self.ask(query(f"EXECUTE own ({value})"))
        expected = [b"%d" % (self.constant * value), self.place, self.who]
        assert rows(frames) == [expected], self.number

    async def write(self) -> None:
        """On the primary, which puts down what it believes."""
        frames = await self.ask(
            query("BEGIN"),
            query("SET LOCAL statement_timeout = '10min'"),
            query(
                f"INSERT INTO visits SELECT {self.number}, current_setting('app.who'),"
                " current_setting('work_mem'), name FROM place"
            ),
            query("COMMIT"),
            ready=4,
        )
        assert [body for kind, body in frames if kind == b"C"][2] == b"INSERT 0 1\0"

    async def notify(self, channel: str, payload: str) -> None:
        """Whoever listens to the channel."""
        await self.ask(query(f"SELECT pg_notify('{channel}', '{payload}')"))


class Sampler:
    """Counts the sessions of every server again and again."""

    def __init__(self, database: str) -> None:
        self.seen: Final[dict[str, list[list[int]]]] = {}
        self._database: Final = database

    async def watch(self, server: Server) -> None:
        """Until it is cancelled."""
        seen = self.seen.setdefault(server.name, [])
        async with await Wire.connect(server, application_name="sampler") as wire:
            while True:
                (answer,) = rows(await wire.ask(query(SESSIONS.format(self._database))))
                seen.append([int(value or b"") for value in answer])
                await asyncio.sleep(0.1)


async def connected(
    proxy: ProxyProcess, database: str, clients: int, ends: AsyncExitStack
) -> list[Member]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def connect(number: int) -> Member:
        async with turn:
            wire = await Wire.connect(proxy, database=database)
        ends.callback(wire.writer.transport.abort)
        return Member(number, wire)

    return await all_of(connect(number) for number in range(clients))


async def all_of(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What they give, all at once; the first that fails ends the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
    return [task.result() for task in tasks]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("clients", [1000, pytest.param(MOST, marks=pytest.mark.extra)])
async def test_each_has_its_own(
    cluster: Cluster, database: str, start_proxy: Callable[..., ProxyProcess], clients: int
) -> None:
    proxy = start_proxy(
        cluster.servers,
        pool={"size": SIZE, "wait_timeout": 600},
        listen={"max_clients": clients + 100},
    )
    async with await Wire.connect(proxy, database=database) as wire:
        assert errors(await wire.ask(query("SELECT 1"))) == []
    memory = [proxy.rss_bytes()]
    sampler = Sampler(database)
    async with AsyncExitStack() as ends, asyncio.TaskGroup() as group:
        members = await connected(proxy, database, clients, ends)
        memory.append(proxy.rss_bytes())
        watches = [group.create_task(sampler.watch(server)) for server in cluster.servers]
        await live(members, memory, proxy)
        for watch in watches:
            watch.cancel()
        await all_of(member.wire.close() for member in members)

    written = cluster.primary.psql(
        "SELECT count(*), count(DISTINCT client), bool_and(who = 'client ' || client"
        f" AND memory = 2 * client + 100001 || 'kB' AND place = 's' || client % {SCHEMAS})"
        " FROM visits",
        database,
    )
    assert written == f"{ROUNDS * clients}|{clients}|t"
    for server in cluster.servers:
        most = [max(values) for values in zip(*sampler.seen[server.name], strict=True)]
        assert 0 < most[0] <= SIZE, server.name
        assert most[1] == (server is cluster.primary), server.name

    names = ("idle", "with all its own", "after two rounds")
    each = [(value - memory[0]) / clients / KIB for value in memory[1:]]
    LOG.info(
        "%d clients, %s: KiB per client %s; most sessions at once %s",
        clients,
        pgproxy._compiled.mode(),
        ", ".join(f"{name} {size:.1f}" for name, size in zip(names, each, strict=True)),
        {name: max(one[0] for one in seen) for name, seen in sampler.seen.items()},
    )
    assert each[-1] < 64


async def live(members: list[Member], memory: list[int], proxy: ProxyProcess) -> None:
    """All begin, and go their rounds at the same time, each in an order of its own."""
    dice = random.Random(10_000)
    payloads = (f"news {number}" for number in count())
    in_order = list(members)
    dice.shuffle(in_order)
    LOG.info("they begin")
    await all_of(member.begin() for member in in_order)
    memory.append(proxy.rss_bytes())
    listeners: dict[str, list[Member]] = {}
    for member in members:
        listeners.setdefault(member.channel, []).append(member)

    for _ in range(ROUNDS):
        LOG.info("a round")
        dice.shuffle(in_order)
        channels = [*listeners]
        dice.shuffle(channels)
        rounds = []
        for member in in_order:
            channel = channels.pop() if channels else "nobody"
            payload = next(payloads)
            for listener in listeners.get(channel, ()):
                listener.expected.append((member.pid, channel, payload))
            rounds.append(go_round(member, random.Random(dice.random()), channel, payload))
        await all_of(rounds)
        await all_of(member.listen_until_told() for member in members)
    memory.append(proxy.rss_bytes())
    # All that was notified has been given to somebody by now.
    await all_of(member.see_settings() for member in members)
    for member in members:
        assert sorted(member.heard) == sorted(member.expected), member.number


async def go_round(member: Member, own: random.Random, channel: str, payload: str) -> None:
    steps = [
        member.see_settings,
        member.write,
        lambda: member.execute(own.randrange(1000)),
        lambda: member.notify(channel, payload),
    ]
    own.shuffle(steps)
    for step in steps:
        await step()
