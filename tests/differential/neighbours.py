"""Twenty other clients of the same pools, who change whatever a session can change.

    with Neighbours(proxy, OTHER) as neighbours:
        neighbours.act(3)                   # returns at once
        neighbours.rest()                   # until nobody acts any more
    neighbours.acts                         # how often who did what

They are a process of their own, which acts as often as it is told to and ends when its input does.
What one does in an act is over after it: nothing of it may hold a server connection longer. What it
has set stays set, for itself alone. That a neighbour is not answered within `PATIENCE`, or is
disconnected, is an error of the proxy: `troubles` tells of each.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from random import Random
from types import SimpleNamespace, TracebackType
from typing import Final, NamedTuple, Self

from tests.differential import noise
from tests.support.processes import Leash
from tests.support.wire import Address, Wire, query

COUNT: Final = 20
PATIENCE: Final = 30  # seconds

_USERS: Final = ("diff_super", "diff_super", "diff_app", "diff_super", "diff_tuned")


class Neighbours:
    """Those of one database; a context manager that ends them."""

    def __init__(
        self, address: Address, database: str, seed: int = 0, without: Iterable[str] = ()
    ) -> None:
        """`without` are names of acts that nobody shall do."""
        command = [sys.executable, "-m", "tests.differential.neighbours", address.host]
        self._process: Final = subprocess.Popen(
            [*command, str(address.port), database, str(seed), *without],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        self._leash: Final = Leash(Path("/nonexistent"), self._process.pid)
        self.acts: dict[str, int] = {}
        self.troubles: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            output, _ = self._process.communicate(timeout=2 * PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        finally:
            self._leash.release()
        told = json.loads(output)
        self.acts, self.troubles = told["acts"], told["troubles"]

    def act(self, count: int) -> None:
        """Let `count` of them act, together."""
        assert self._process.stdin is not None
        self._process.stdin.write("." * count)
        self._process.stdin.flush()

    def rest(self) -> None:
        """Wait until all who were told to act have done so."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("?")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "at rest\n"


# --- the process


class _Report(NamedTuple):
    acts: dict[str, int]
    troubles: list[str]


class _Neighbour:
    def __init__(
        self, address: Address, database: str, number: int, random: Random, without: Collection[str]
    ) -> None:
        self._address: Final = address
        self._user: Final = _USERS[number % len(_USERS)]
        self._database: Final = database
        self._stage: Final = noise.Noise(address, random, f"neighbour {number}", without)
        self._wire: Wire | None = None
        self.turns: Final[asyncio.Queue[bool]] = asyncio.Queue()

    async def live(self, report: _Report) -> None:
        """Act at every turn until there is none any more."""
        while await self.turns.get():
            name, act = self._stage.choose()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._take(act)
                report.acts[name] = report.acts.get(name, 0) + 1
            except (TimeoutError, OSError) as error:
                report.troubles.append(f"{name}: {error!r}")
                await self._leave()
            self.turns.task_done()
        await self._leave()

    async def _take(self, act: noise.Act) -> None:
        if self._wire is None:
            self._wire = await self._connect()
        if not await act(self._wire):
            await self._leave()

    async def _connect(self) -> Wire:
        connection = await noise.Client.connect(
            self._address,
            user=self._user,
            database=self._database,
            **self._stage.parameters(),  # type: ignore[arg-type]
        )
        if not self._stage.settings:
            self._stage.learn(await connection.ask(query(noise.SETTINGS)))
        return connection

    async def _leave(self) -> None:
        if self._wire is not None:
            connection, self._wire = self._wire, None
            await connection.drop()


async def _main(address: Address, database: str, seed: int, without: Collection[str]) -> _Report:
    report = _Report({}, [])
    neighbours = [
        _Neighbour(address, database, number, Random(seed * 1000 + number), without)
        for number in range(COUNT)
    ]
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    told = 0
    async with asyncio.TaskGroup() as group:
        for neighbour in neighbours:
            group.create_task(neighbour.live(report))
        while order := await orders.read(1):
            if order == b".":
                neighbours[told % COUNT].turns.put_nowait(True)
                told += 1
                continue
            for neighbour in neighbours:
                await neighbour.turns.join()
            sys.stdout.write("at rest\n")
            sys.stdout.flush()
        for neighbour in neighbours:
            neighbour.turns.put_nowait(False)
    return report


if __name__ == "__main__":
    _where = SimpleNamespace(host=sys.argv[1], port=int(sys.argv[2]))
    _report = asyncio.run(_main(_where, sys.argv[3], int(sys.argv[4]), sys.argv[5:]))
    sys.stdout.write(json.dumps(_report._asdict()))
