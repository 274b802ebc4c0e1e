"""What neighbours do. Each act leaves no transaction open and no server connection held.

An act returns whether its connection is to be used again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from random import Random
from typing import Final

from tests.support import wire
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Address,
    Frame,
    Wire,
    bind,
    close,
    copy_data,
    describe,
    execute,
    parse,
    query,
)

Act = Callable[[Wire], Awaitable[bool]]

# Not changed: what ends or delays statements of the neighbours' own, writes logs without end, or
# needs what is not there.
SETTINGS: Final = """SELECT name, vartype, boot_val, max_val, array_to_string(enumvals, '|')
  FROM pg_settings
 WHERE context IN ('user', 'superuser')
   AND name !~ '^(log_|debug_|trace_|transaction_|wal_consistency|backtrace|default_table|exit_on)'
   AND name !~ '(_libraries|_stats|_dump_bitcode|tablespaces?|_delay|check_interval)$'
   AND (vartype <> 'string' OR name IN ('application_name', 'search_path', 'DateStyle', 'TimeZone'))
   AND name NOT IN ('client_encoding', 'max_stack_depth', 'update_process_title', 'ignore_checksum_failure')"""

_STRINGS: Final = {
    "application_name": ("noise", "more noise", ""),
    "search_path": ("two", "one, two", "pg_catalog", "nowhere"),
    "DateStyle": ("SQL, MDY", "Postgres, DMY", "German"),
    "TimeZone": ("Pacific/Auckland", "America/St_Johns", "+11"),
}
_HOURS: Final = (
    "7200000"  # of what would end a statement: differs from the default, and never ends it
)

_PARAMETERS: Final[tuple[dict[str, str], ...]] = (
    {"application_name": "noise"},
    {"TimeZone": "Pacific/Auckland", "DateStyle": "SQL"},
    {"options": "-c search_path=two -c app.user=noise"},
    {"options": "-c IntervalStyle=iso_8601 -c work_mem=9999", "client_encoding": "LATIN1"},
    {"options": "-c app.tenant=noise -c role=none"},
    {"app.user": "noise", "default_transaction_isolation": "repeatable read"},
    {},
)


class Client(Wire):
    """A connection whose end, if nobody has asked for it, is an error with the reason given."""

    async def read(self) -> Frame:
        try:
            kind, body = await super().read()
        except asyncio.IncompleteReadError:
            raise ConnectionError(f"disconnected: {self._last_error}") from None
        if kind == b"E":
            self._last_error = wire.fields(body)
        return kind, body

    _last_error: dict[str, str] | None = None


class Noise:
    """What one neighbour may do, in an order of its own."""

    def __init__(
        self, address: Address, random: Random, name: str, without: Collection[str] = ()
    ) -> None:
        self._address: Final = address
        self._random: Final = random
        self._name: Final = name
        self.settings: dict[str, Sequence[str]] = {}
        self.acts: Final = {
            name.removeprefix("_"): act
            for name, act in vars(type(self)).items()
            if name.startswith("_") and not name.startswith("__") and callable(act)
            if name.removeprefix("_") not in without
        }
        self._next: list[str] = []

    def learn(self, frames: list[Frame]) -> None:
        """What there is to be set: the answer to `SETTINGS`."""
        for row in wire.rows(frames):
            name, kind, boot, most, words = ((value or b"").decode() for value in row)
            if kind == "bool":
                values: Sequence[str] = ("on", "off")
            elif kind == "enum":
                values = [
                    word for word in words.split("|") if not word.startswith(("debug", "log"))
                ]
            elif kind == "string":
                values = _STRINGS[name]
            elif name.endswith("timeout"):
                values = (_HOURS, boot)
            else:
                values = (_next_to(float(boot), float(most), kind), boot)
            self.settings[name] = values

    def parameters(self) -> dict[str, str]:
        """For a start-up packet."""
        return self._random.choice(_PARAMETERS)

    def choose(self) -> tuple[str, Act]:
        """All of its acts in turn, shuffled each time."""
        if not self._next:
            self._next = sorted(self.acts)
            self._random.shuffle(self._next)
        name = self._next.pop()
        return name, partial(self.acts[name], self)

    # --- settings

    def some(self, count: int) -> list[str]:
        """Texts that set `count` settings."""
        names = self._random.sample(sorted(self.settings), count)
        return [f"SET {name} = '{self._random.choice(self.settings[name])}'" for name in names]

    async def _set_many(self, client: Wire) -> bool:
        await client.ask(query("; ".join(self.some(10))))
        return True

    async def _set_one_by_one(self, client: Wire) -> bool:
        for text in self.some(3):
            await client.ask(query(text))
        return True

    async def _set_extended(self, client: Wire) -> bool:
        texts = self.some(4)
        await client.ask(*(parse(text) + bind() + execute() for text in texts), SYNC)
        return True

    async def _set_everything(self, client: Wire) -> bool:
        await client.ask(query("; ".join(self.some(len(self.settings)))))
        return True

    async def _set_custom(self, client: Wire) -> bool:
        await client.ask(
            query(f"""SET app."user" = '{self._name}'; SET app.tenant = 'noise';
            SET app.of_a = 'noise'; SET app.of_b = 'noise'; SET app.never = 'noise'""")
        )
        return True

    async def _set_config(self, client: Wire) -> bool:
        said = parse("SELECT set_config($1, $2, false)", "s1")
        for name, value in ((b"app.user", b"noise"), (b"work_mem", b"7777"), (b"app.never", b"")):
            said += bind(name, value, statement="s1") + execute()
        await client.ask(said, close("S", "s1"), SYNC)
        return True

    async def _set_for_a_transaction(self, client: Wire) -> bool:
        await client.ask(query("BEGIN"))
        for text in self.some(3):
            await client.ask(query(text.replace("SET", "SET LOCAL", 1)))
        await client.ask(query("SELECT set_config('app.user', 'noise', true)"))
        await client.ask(query("SAVEPOINT a; " + "; ".join(self.some(2)) + "; ROLLBACK TO a"))
        await client.ask(query(self._random.choice(("COMMIT", "ROLLBACK"))))
        return True

    async def _set_and_fail(self, client: Wire) -> bool:
        await client.ask(query("BEGIN; " + "; ".join(self.some(3))))
        await client.ask(query("SELECT 1/0"))
        await client.ask(query("SHOW work_mem"))
        await client.ask(query("ROLLBACK"))
        await client.ask(query("; ".join([*self.some(2), "SELECT 1/0"])))
        return True

    async def _encoding(self, client: Wire) -> bool:
        await client.ask(query("SET NAMES 'LATIN1'; SELECT 'ü'"))
        return True

    async def _role(self, client: Wire) -> bool:
        await client.ask(
            query(self._random.choice(("SET ROLE diff_reader", "SET ROLE diff_writer")))
        )
        await client.ask(query("SELECT body FROM secrets"))
        return True

    async def _authorization(self, client: Wire) -> bool:
        await client.ask(query("SET SESSION AUTHORIZATION diff_app"))
        await client.ask(query("SELECT body FROM secrets"))
        return True

    async def _characteristics(self, client: Wire) -> bool:
        await client.ask(query("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        await client.ask(query("CREATE TABLE nothing ()"))
        return True

    async def _reset(self, client: Wire) -> bool:
        await client.ask(query(self._random.choice(("RESET ALL", "DISCARD ALL", "RESET ROLE"))))
        return True

    # --- prepared statements, under the names of the scripts

    async def _prepare(self, client: Wire) -> bool:
        text = f"SELECT '{self._name}', $1::text"
        await client.ask(parse(text, "s1"), parse(f"{text}, 2", "s2"), parse(text, "S 3"), SYNC)
        await client.ask(bind(b"x", statement="s2"), describe("P"), execute(), SYNC)
        await client.ask(parse(text, "s1"), SYNC)  # which exists by now
        await client.ask(close("S", "s1"), close("S", "S 3"), SYNC)
        return True

    async def _prepare_in_sql(self, client: Wire) -> bool:
        await client.ask(query(f"PREPARE s1 AS SELECT '{self._name}'"))
        await client.ask(query("PREPARE s2 (int) AS SELECT $1 - 1; EXECUTE s2 (1); EXECUTE s1"))
        await client.ask(query("DEALLOCATE s1"))
        await client.ask(
            query(self._random.choice(("DEALLOCATE ALL", "DISCARD ALL", "EXECUTE s1")))
        )
        await client.ask(query("DEALLOCATE ALL"))
        return True

    async def _unnamed(self, client: Wire) -> bool:
        await client.ask(parse(f"SELECT '{self._name}', $1::int"), SYNC)
        await client.ask(bind(b"1"), describe("P"), execute(), SYNC)
        return True

    # --- what ends badly

    async def _leave_in_a_transaction(self, client: Wire) -> bool:
        await client.ask(
            query("BEGIN; SET LOCAL work_mem = '1234'; SET app.tenant = 'left behind'")
        )
        await client.ask(query("INSERT INTO noise VALUES (0, 'never committed')"))
        return False

    async def _leave_a_failed_transaction(self, client: Wire) -> bool:
        await client.ask(query("BEGIN; SET ROLE diff_writer; SELECT 1/0"))
        return False

    async def _leave_without_reading(self, client: Wire) -> bool:
        await client.send(query("SELECT g, repeat('x', 1000) FROM generate_series(1, 2000) g"))
        await client.read()
        return False

    async def _leave_in_a_pipeline(self, client: Wire) -> bool:
        part = parse("SELECT set_config('app.user', 'pipelined', false)", "s1") + bind(
            statement="s1"
        )
        await client.send(part, execute(), SYNC, part, execute(), SYNC, parse("SELEC"), SYNC)
        await client.until(b"Z")
        return False

    async def _leave_in_a_batch(self, client: Wire) -> bool:
        await client.send(parse("SET work_mem = '4321'"), bind(), execute(), FLUSH)
        await client.until(b"CE")
        return False

    async def _leave_in_copy(self, client: Wire) -> bool:
        await client.send(query("COPY noise FROM STDIN"))
        if (await client.until(b"GE"))[-1][0] == b"G":
            await client.send(copy_data(b"1\tnever "))
        return False

    async def _leave_with_everything(self, client: Wire) -> bool:
        await client.ask(query("; ".join(self.some(5))))
        await client.ask(query("SET ROLE diff_reader"), parse("SELECT 1", "s1"), SYNC, ready=2)
        return False

    async def _reconnect(self, client: Wire) -> bool:
        return False

    # --- what holds a connection for a while

    async def _copy(self, client: Wire) -> bool:
        await client.ask(query("COPY noise FROM STDIN"), copy_data(b"1\tn\n"), COPY_DONE)
        await client.ask(query("COPY (SELECT g FROM generate_series(1, 100) g) TO STDOUT"))
        return True

    async def _temporary(self, client: Wire) -> bool:
        await client.ask(query("CREATE TEMP TABLE t1 AS SELECT 'noise' AS n"))
        await client.ask(query("SELECT * FROM t1"))
        await client.ask(query(self._random.choice(("DROP TABLE t1", "DISCARD TEMP"))))
        await client.ask(query("DISCARD TEMP"))
        return True

    async def _cursor(self, client: Wire) -> bool:
        await client.ask(query("DECLARE c1 CURSOR WITH HOLD FOR SELECT 'noise'"))
        await client.ask(query("FETCH c1"))
        await client.ask(query("CLOSE ALL"))
        return True

    async def _lock(self, client: Wire) -> bool:
        await client.ask(query("SELECT pg_advisory_lock(7), pg_advisory_lock_shared(8)"))
        await client.ask(query("SELECT pg_advisory_unlock_all()"))
        return True

    async def _listen(self, client: Wire) -> bool:
        await client.ask(query("LISTEN noise; NOTIFY noise, 'made'"))
        await client.ask(query("UNLISTEN *"))
        return True

    async def _block(self, client: Wire) -> bool:
        await client.ask(
            query("DO $$ BEGIN PERFORM set_config('app.tenant', 'block', false); END $$")
        )
        await client.ask(query("DO $$ BEGIN RAISE WARNING 'noise'; END $$"))
        return True

    async def _errors(self, client: Wire) -> bool:
        await client.ask(query("SELEC 'noise'"))
        await client.ask(parse("SELECT 1/$1::int"), bind(b"0"), execute(), SYNC)
        await client.ask(bind(statement="of nobody"), execute(), SYNC)
        return True

    async def _cancel_itself(self, client: Wire) -> bool:
        await client.send(query("SELECT pg_sleep(0.02)"))
        await _cancel(self._address, client)
        await client.until(b"Z")
        return True

    async def _cancel_too_late(self, client: Wire) -> bool:
        await client.ask(query("SELECT 1"))
        await _cancel(self._address, client)
        return True


async def _cancel(address: Address, connection: Wire) -> None:
    """Ask for it, and wait until it has been seen to: a cancel never gets an answer."""
    async with await Wire.open(address) as other:
        await other.send(wire.cancel_request(*connection.key()))
        await other.until(b"")


def _next_to(value: float, most: float, kind: str) -> str:
    """Another number than `value`, as near as can be."""
    if kind == "integer":
        return str(int(value + 1 if value < most else value - 1))
    return str(value + 1 if value + 1 <= most else value * 0.9)
