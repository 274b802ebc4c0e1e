"""Noisy clients of the same database and user, so of the same pool, as the client under test.

    with Neighbours(proxy, database, role="somebody"):
        ...  # whatever must not notice them

Each changes settings, in transactions and outside, prepares statements under names that drivers use
with texts that drivers do not, fails, rolls back, and changes its role. Each also knows what its own
session must look like, and looks: a setting that came from elsewhere, or went, is a fault of the
proxy and raises `NeighbourError` at the end of the block. They are seeded by their numbers.

They hold no connection for longer than a short transaction, and hold none for ever: no LISTEN, no
temporary table.
"""

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from tests.support import wire
from tests.support.wire import Address, Frame, Wire

# What asyncpg, psycopg, pgjdbc, tokio-postgres and node-postgres (and our programs) call theirs.
NAMES: Final = (
    *("__asyncpg_stmt_1__", "__asyncpg_stmt_2__", "_pg3_0", "_pg3_1", "S_1", "S_2", "s0", "s1"),
    *("pick", "add", "own", "piped", "a", "b", ""),
)

# Each with values that PostgreSQL shows as they were set.
SETTINGS: Final = {
    "DateStyle": ("ISO, DMY", "SQL, MDY", "German, DMY", "Postgres, YMD"),
    "TimeZone": ("Asia/Tokyo", "America/St_Johns", "UTC"),
    "IntervalStyle": ("iso_8601", "sql_standard", "postgres_verbose"),
    "search_path": ("pg_catalog", "nowhere", "two, one"),
    "application_name": ("neighbour", "somebody else"),
    "statement_timeout": ("55s", "1min", "70s"),
    "work_mem": ("5MB", "6MB"),
    "bytea_output": ("escape", "hex"),
    "extra_float_digits": ("0", "-3", "3"),
    "default_transaction_isolation": ("repeatable read", "read committed"),
    "app.who": ("neighbour", "it''s mine"),
    "app.team": ("red", "blue"),
    "app.tenant": ("17", "18"),
}
_LOOK: Final = "SELECT " + ", ".join(f"current_setting('{name}', true)" for name in SETTINGS)

Settings = dict[str, str]


class NeighbourError(Exception):
    """What the neighbours saw that was not theirs, or what they waited for in vain."""


class Neighbours:
    """A context manager: `count` clients in a thread of their own, until its end.

    `role` is a role that the user may change to. Without `keep` they leave nothing in their sessions:
    settings are changed by SET LOCAL alone, and nothing is prepared with SQL.
    """

    def __init__(
        self,
        address: Address,
        database: str,
        *,
        role: str,
        user: str = "postgres",
        count: int = 20,
        keep: bool = True,
        pause: float = 0.05,
    ) -> None:
        """They do not begin before the block does; each rests `pause` seconds now and then."""
        self.rounds = 0
        self._address: Final = address
        self._database: Final = database
        self._user: Final = user
        self._role: Final = role
        self._count: Final = count
        self._keep: Final = keep
        self._pause: Final = pause
        self._leaving: Final = threading.Event()
        self._started: Final = threading.Event()
        self._faults: Final[list[str]] = []
        self._thread: Final = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(30)  # they are at it
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaving.set()
        self._thread.join()
        if error is None and self._faults:
            raise NeighbourError("\n".join(self._faults[:10]))

    def wait(self, rounds: int) -> None:
        """Until they have done so much, or given up."""
        while self.rounds < rounds and self._thread.is_alive():
            time.sleep(0.01)

    async def _all(self) -> None:
        try:
            async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(n)) for n in range(self._count)]
                while not self._leaving.is_set() and not all(task.done() for task in tasks):
                    if self.rounds >= self._count:
                        self._started.set()
                    await asyncio.sleep(0.05)
                limit.reschedule(asyncio.get_running_loop().time() + 40)
        except TimeoutError:
            self._faults.append("one still waited for an answer when it was time to go")
        finally:
            self._started.set()

    async def _open(self) -> Wire:
        opened = await Wire.connect(self._address, database=self._database, user=self._user)
        if not opened.startup or opened.startup[-1][0] != b"Z":
            await opened.drop()
            raise NeighbourError(f"not let in: {opened.startup}")
        return opened

    async def _one(self, number: int) -> None:
        try:
            async with await self._open() as wire_:
                neighbour = Neighbour(wire_, number, self._role, self._keep)
                await neighbour.look()
                while not self._leaving.is_set():
                    await neighbour.round()
                    self.rounds += 1
                    await asyncio.sleep(neighbour.chance.random() * 2 * self._pause)
        except (NeighbourError, OSError, asyncio.IncompleteReadError) as fault:
            self._faults.append(f"neighbour {number}: {fault}")


class Neighbour:
    """One of them: what it does, and what it knows of its session."""

    def __init__(self, wire_: Wire, number: int, role: str, keep: bool) -> None:
        """`wire_` is logged in."""
        self.chance: Final = random.Random(number)
        self._wire: Final = wire_
        self._number: Final = number
        self._role: Final = role
        self._settings: Settings = {}  # one that is not there counts as empty
        self._first: Settings = {}
        self._current_role = ""
        self._first_role = ""
        self._prepared: Final[set[str]] = set()
        self._doings: Final[list[Callable[[], Awaitable[None]]]] = [
            *(self._locally, self._fail, self._parse, self._roll_back_locally),
            *((self._change, self._reset, self._roll_back, self._play) if keep else ()),
            *((self._change_role, self._prepare, self._savepoints, self._discard) if keep else ()),
        ]

    async def round(self) -> None:
        """Do something, and look whether the session is as it must be. Raises `NeighbourError`."""
        await self.chance.choice(self._doings)()
        await self._expect(self._settings)

    async def look(self) -> None:
        """Note the settings as they are at the log-in."""
        self._settings = self._read(await self._wire.ask(wire.query(_LOOK)))
        frames = await self._wire.ask(wire.query("SELECT current_user"))
        self._current_role = _text(frames)[0][0]
        self._first = dict(self._settings)
        self._first_role = self._current_role

    # --- settings

    async def _change(self) -> None:
        name, value = self._another()
        if self.chance.random() < 0.5:
            await self._run(f"SET {name} = {_literal(name, value)}")
        else:
            await self._run(f"SELECT set_config('{name}', '{value}', false)")
        self._settings[name] = _shown(value)

    async def _reset(self) -> None:
        if self.chance.random() < 0.3:
            await self._run("RESET ALL")
            self._settings = dict(self._first)
            return
        name = self.chance.choice(list(SETTINGS))
        await self._run(f"RESET {name}")
        self._settings[name] = self._first[name]

    async def _discard(self) -> None:
        await self._run("DISCARD ALL")
        self._settings = dict(self._first)
        self._current_role = self._first_role
        self._prepared.clear()

    async def _change_role(self) -> None:
        if self._current_role == self._role:
            await self._run("RESET ROLE" if self.chance.random() < 0.5 else "SET ROLE NONE")
            self._current_role = self._first_role
        else:
            await self._run(f"SET ROLE {self._role}")
            self._current_role = self._role

    # --- transactions

    async def _locally(self) -> None:
        await self._transaction("SET LOCAL", "COMMIT")

    async def _roll_back_locally(self) -> None:
        await self._transaction("SET LOCAL", "ROLLBACK")

    async def _roll_back(self) -> None:
        await self._transaction("SET", "ROLLBACK")

    async def _transaction(self, verb: str, end: str) -> None:
        await self._run(self.chance.choice(("BEGIN", "BEGIN READ ONLY", "START TRANSACTION")))
        inside = dict(self._settings)
        for _ in range(self.chance.randint(1, 3)):
            name, value = self._another()
            await self._run(f"{verb} {name} = {_literal(name, value)}")
            inside[name] = _shown(value)
        await self._expect(inside)
        await self._run(end)

    async def _savepoints(self) -> None:
        name, value = self._another()
        _, other = self._another()
        await self._run("BEGIN")
        await self._run(f"SET {name} = {_literal(name, value)}")
        await self._run("SAVEPOINT s")
        await self._run(f"SET app.tenant = '{other}'; SELECT 1 / 0", "22012")
        await self._run("ROLLBACK TO s")
        await self._run("COMMIT")
        self._settings[name] = _shown(value)

    async def _fail(self) -> None:
        code, sql = self.chance.choice(
            (("22012", "SELECT 1 / 0"), ("42601", "SELEC"), ("42P01", "SELECT * FROM nowhere"))
        )
        if self.chance.random() < 0.5:
            await self._run(sql, code)
            return
        await self._run("BEGIN")
        await self._run(sql, code)
        await self._run("SELECT 'refused'", "25P02")
        await self._run(self.chance.choice(("ROLLBACK", "COMMIT")))

    # --- statements

    async def _parse(self) -> None:
        """Named ones of the protocol: this session's text, whatever others call by that name."""
        name = self.chance.choice(NAMES)
        text = f"SELECT {self._number}, $1::text"
        messages = [] if name and name in self._prepared else [wire.parse(text, name)]
        if name:
            self._prepared.add(name)
        messages += [wire.bind(b"own", statement=name), wire.execute()]
        if name and self.chance.random() < 0.3:
            messages.append(wire.close("S", name))
            self._prepared.discard(name)
        frames = await self._wire.ask(*messages, wire.SYNC)
        self._hold(_text(frames) == [[str(self._number), "own"]], f"Parse {name}", frames)

    async def _prepare(self) -> None:
        name = f'"{self.chance.choice(NAMES) or "x"}"'
        # One that the protocol made has the same name space, and may be there: away with it.
        if name.strip('"') in self._prepared:
            await self._wire.ask(wire.close("S", name.strip('"')), wire.SYNC)
            self._prepared.discard(name.strip('"'))
        await self._run(f"PREPARE {name} (int) AS SELECT $1 + {self._number}")
        frames = await self._wire.ask(wire.query(f"EXECUTE {name} (1)"))
        self._hold(_text(frames) == [[str(1 + self._number)]], f"EXECUTE {name}", frames)
        await self._run(f"DEALLOCATE {name}")

    async def _play(self) -> None:
        """A pipeline with an error in its middle, and settings before and behind it."""
        name, value = self._another()
        texts = [f"SET {name} = {_literal(name, value)}", "SELECT 1 / 0", "SELECT 'skipped'"]
        batch = [wire.parse(text) + wire.bind() + wire.execute() for text in texts]
        frames = await self._wire.ask(*batch[:1], wire.SYNC, *batch[1:], wire.SYNC, ready=2)
        self._hold(wire.errors(frames) == ["22012"], "a pipeline", frames)
        self._settings[name] = _shown(value)

    # --- what must be so

    async def _run(self, sql: str, fails: str | None = None) -> None:
        frames = await self._wire.ask(wire.query(sql))
        self._hold(wire.errors(frames) == ([fails] if fails else []), sql, frames)

    async def _expect(self, settings: Settings) -> None:
        frames = await self._wire.ask(wire.query(_LOOK))
        seen = self._read(frames)
        wrong = {
            name: (seen[name], settings[name]) for name in seen if seen[name] != settings[name]
        }
        self._hold(not wrong, f"settings (seen, expected): {wrong}", [])
        frames = await self._wire.ask(wire.query("SELECT current_user"))
        self._hold(_text(frames) == [[self._current_role]], "current_user", frames)

    def _read(self, frames: list[Frame]) -> Settings:
        answer = _text(frames)
        self._hold(len(answer) == 1, "a look at the settings", frames)
        return dict(zip(SETTINGS, answer[0], strict=True))

    def _another(self) -> tuple[str, str]:
        name = self.chance.choice(list(SETTINGS))
        return name, self.chance.choice(SETTINGS[name])

    def _hold(self, so: bool, what: str, frames: list[Frame]) -> None:
        if not so:
            shown = [frame for frame in frames if frame[0] in b"DECZ"]
            raise NeighbourError(f"{what}: {shown}")


def _text(frames: list[Frame]) -> list[list[str]]:
    return [[(value or b"").decode() for value in row] for row in wire.rows(frames)]


def _literal(name: str, value: str) -> str:
    return value if name == "search_path" else f"'{value}'"


def _shown(value: str) -> str:
    return value.replace("''", "'")
