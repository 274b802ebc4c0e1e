"""Plays a script against an address; what comes back is a transcript.

The transcript has every frame of every answer as a line of text. Left out or made equal is only
what has to differ between two connections to PostgreSQL itself:

- process ids and keys (of BackendKeyData the length stays), the numbers of temporary schemas,
  OIDs of what users made;
- file, line and routine of errors: where in PostgreSQL's source they were raised;
- where in the answer to a step ParameterStatus stands, and in which order those of several
  settings: after RESET ALL it is the order in which the connection ever changed them, which a client
  cannot know. Which come, and of one setting in which order, is compared for each step;
- when notifications come. Which come, and in which order, is compared for each connection.
"""

import asyncio
import itertools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.differential.script import (
    Connect,
    CopyData,
    CopyDone,
    CopyFail,
    Hear,
    Login,
    Message,
    Query,
    Script,
    Step,
    Sync,
    encode,
)
from tests.support import wire
from tests.support.wire import Address, Frame, Wire

HANGS: Final = "NO (COMPLETE) ANSWER"
PATIENCE: Final = 25  # seconds for the answer to a step; only what hangs takes so long

# The last frame of the answer to one message of an extended batch.
_COMPLETES: Final = b"123TnCIsG"
_COPY: Final = (CopyData, CopyDone, CopyFail)

_FIRST_OF_USERS: Final = 16384  # FirstNormalObjectId
_TEMPORARY: Final = re.compile(r"pg_(toast_)?temp_\d+")
_keys: Final = itertools.count(1_000_001)  # of advisory locks, all of the same length


@dataclass
class Answer:
    """What a step brought."""

    client: str
    frames: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)


@dataclass
class Transcript:
    """The answers, one for each step, and what each connection was notified of."""

    answers: list[Answer] = field(default_factory=list)
    heard: list[list[str]] = field(default_factory=list)


class _Client:
    """One of the clients of a script, connected or not."""

    def __init__(self, number: int) -> None:
        self.letter: Final = "ab"[number]
        self.wire: Wire | None = None
        self.closed = False  # by the other side
        self.failed = False  # in an extended batch whose Sync has not been sent
        self.heard: list[str] = []


async def play(
    address: Address,
    database: str,
    script: Script,
    *,
    before_step: Callable[[], None] = lambda: None,
) -> Transcript:
    """Play it. What hangs ends the play, with a line in the transcript."""
    player = _Player(address, database)
    try:
        for step in script.steps:
            before_step()
            try:
                async with asyncio.timeout(PATIENCE):
                    await player.take(step)
            except TimeoutError:
                player.transcript.answers[-1].frames.append(HANGS)
                return player.transcript
    finally:
        await player.leave()
    return player.transcript


class _Player:
    def __init__(self, address: Address, database: str) -> None:
        self._address: Final = address
        self._database: Final = database
        self._clients: Final = (_Client(0), _Client(1))
        self._key = next(_keys)
        self.transcript: Final = Transcript()

    async def take(self, step: Step) -> None:
        client = self._clients[step.client]
        answer = Answer(client.letter)
        self.transcript.answers.append(answer)
        if isinstance(step, Connect):
            await self._connect(client, step.login, answer, step.how)
            return
        if client.wire is None and not client.closed:
            await self._connect(client, Login(), answer)
        if client.wire is None:
            answer.frames.append("not connected")
            return
        if isinstance(step, Hear):
            await self._hear(client, step.count, answer)
        else:
            await self._say(client, step.messages, answer)
        answer.parameters.sort(key=_setting)

    async def leave(self) -> None:
        """Disconnect; what comes unasked until the end of the stream is a last answer."""
        for client in self._clients:
            answer = Answer(client.letter)
            self.transcript.answers.append(answer)
            await self._disconnect(client, answer)

    async def _connect(
        self, client: _Client, login: Login, answer: Answer, how: str = "Terminate"
    ) -> None:
        await self._disconnect(client, answer, how)
        client.closed = False
        self._key = next(_keys)  # the locks of the session that has ended may go a little later
        named = dict(login.parameters, user=login.user, database=self._database)
        client.wire = await Wire.connect(self._address, **named)  # type: ignore[arg-type]
        self._note(client, client.wire.startup, answer)
        if not client.wire.startup or client.wire.startup[-1][0] != b"Z":
            await self._closed(client, answer)

    async def _disconnect(self, client: _Client, answer: Answer, how: str = "Terminate") -> None:
        if client.wire is None:
            return
        connection, client.wire, client.failed = client.wire, None, False
        if how == "Terminate":
            try:
                async with asyncio.timeout(PATIENCE):
                    await connection.send(wire.TERMINATE)
                    self._note(client, await connection.until(b""), answer)
            except (OSError, TimeoutError) as error:
                answer.frames.append(f"no orderly end: {error!r}")
        await connection.drop()
        self.transcript.heard.append(client.heard)
        client.heard = []

    async def _closed(self, client: _Client, answer: Answer) -> None:
        answer.frames.append("closed")
        assert client.wire is not None
        connection, client.wire, client.failed, client.closed = client.wire, None, False, True
        await connection.drop()

    async def _hear(self, client: _Client, count: int, answer: Answer) -> None:
        assert client.wire is not None
        while len(client.heard) < count:
            frames = await client.wire.until(b"A")
            self._note(client, frames, answer)
            if not frames:
                await self._closed(client, answer)
                return

    async def _say(self, client: _Client, messages: tuple[Message, ...], answer: Answer) -> None:
        connection = client.wire
        assert connection is not None
        words = {"@me": client.letter}
        words |= {f"@lock{n}": f"{self._key}{n}" for n in range(1, 10)}
        sent = b"".join(encode(message, words) for message in messages)
        # Written while read: neither side may have to hold what the other does not read.
        async with asyncio.TaskGroup() as group:
            group.create_task(connection.send(sent))
            await self._read_answer(client, connection, messages, answer)

    async def _read_answer(
        self, client: _Client, connection: Wire, messages: tuple[Message, ...], answer: Answer
    ) -> None:
        ready = sum(isinstance(message, Query | Sync) for message in messages)
        last = max(
            (at for at, message in enumerate(messages) if isinstance(message, Query | Sync)),
            default=-1,
        )
        # What follows the last Sync is flushed: an answer for each message, or one error for all.
        flushed = sum(not isinstance(message, _COPY) for message in messages[last + 1 : -1])
        if last + 1 < len(messages) and isinstance(messages[-1], _COPY):
            flushed = 0
        while ready or (flushed and not client.failed):
            try:
                frame = await connection.read()
            except (asyncio.IncompleteReadError, OSError):
                await self._closed(client, answer)
                return
            self._note(client, [frame], answer)
            kind = frame[0]
            if kind == b"Z":
                ready -= 1
                client.failed = False
            elif not ready:
                flushed -= kind in _COMPLETES
                client.failed |= kind == b"E"

    def _note(self, client: _Client, frames: list[Frame], answer: Answer) -> None:
        for kind, body in frames:
            if kind == b"S":
                name, value, _ = body.decode(errors="backslashreplace").split("\0")
                answer.parameters.append(f"{name} = {value}")
            elif kind == b"A":
                channel, payload, _ = body[4:].decode(errors="backslashreplace").split("\0")
                client.heard.append(f"{channel}: {payload}")
            else:
                # A text that locks may be told again, as pg_cursors does.
                answer.frames.append(shown(kind, body).replace(str(self._key), "KEY"))


def _setting(parameter: str) -> str:
    return parameter.partition(" = ")[0]


def shown(kind: bytes, body: bytes) -> str:
    """A frame as a line, without what has to differ."""
    match kind:
        case b"T":
            return "RowDescription " + ", ".join(_columns(body))
        case b"D":
            values = wire.rows([(kind, body)])[0]
            return "DataRow " + " | ".join(map(_value, values))
        case b"t":
            types = struct.unpack(f"!{(len(body) - 2) // 4}I", body[2:])
            return f"ParameterDescription {[_oid(one) for one in types]}"
        case b"E" | b"N":
            parts = (part.decode(errors="backslashreplace") for part in body.split(b"\0"))
            kept = [part for part in parts if part and part[0] not in "FLR"]
            return {b"E": "Error ", b"N": "Notice "}[kind] + _masked(" ".join(map(repr, kept)))
        case b"K":
            return f"BackendKeyData of {len(body)} bytes"
        case b"C" | b"Z":
            return f"{kind.decode()} {body.rstrip(bytes(1)).decode()}"
    return f"{kind.decode()} {_masked(repr(body))}" if body else kind.decode()


def _columns(body: bytes) -> list[str]:
    found = []
    at = 2
    for _ in range(int.from_bytes(body[:2])):
        end = body.index(0, at)
        table, column, kind, size, modifier, form = struct.unpack_from("!IhIhih", body, end + 1)
        name = _masked(body[at:end].decode(errors="backslashreplace"))
        found.append(f"{name}({_oid(table)} {column} {_oid(kind)} {size} {modifier} {form})")
        at = end + 19
    return found


def _value(value: bytes | None) -> str:
    return "NULL" if value is None else _masked(repr(value)[1:])


def _oid(oid: int) -> str:
    return str(oid) if oid < _FIRST_OF_USERS else "user's"


def _masked(text: str) -> str:
    return _TEMPORARY.sub(r"pg_\1temp_N", text)
