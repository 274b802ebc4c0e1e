"""A raw protocol client: sends the frames it is told to and returns the frames that come.

It interprets nothing and shares no code with the proxy. Works against a PostgreSQL server and the
proxy alike (whatever has a `host` and a `port`), so that "the same bytes as direct" is one line:

    assert await replies(proxy, query("SELECT 1")) == await replies(primary, query("SELECT 1"))
"""

import asyncio
import contextlib
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Protocol, Self

Frame = tuple[bytes, bytes]
"""A message as (type byte, body without its length)."""

PROTOCOL_3_0: Final = 196608
PROTOCOL_3_2: Final = 196610


class Address(Protocol):
    """Where to connect: a `Server` of a cluster, a `ProxyProcess`, a `FaultProxy`."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader: Final = reader
        self.writer: Final = writer
        self.startup: list[Frame] = []

    @classmethod
    async def open(cls, address: Address) -> Self:
        """Connect and send nothing."""
        return cls(*await asyncio.open_connection(address.host, address.port))

    @classmethod
    async def connect(
        cls,
        address: Address,
        *,
        user: str = "postgres",
        database: str = "postgres",
        protocol: int = PROTOCOL_3_0,
        **parameters: str,
    ) -> Self:
        """Connect and log in where no password is asked for; `startup` holds the answer.

        That ends with ReadyForQuery, or with what came before the other side closed.
        """
        wire = await cls.open(address)
        await wire.send(startup(user, database, protocol, **parameters))
        wire.startup = await wire.until(b"Z")
        return wire

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def send(self, *messages: bytes) -> None:
        """Send messages in one write."""
        self.writer.write(b"".join(messages))
        await self.writer.drain()

    async def read(self) -> Frame:
        """The next frame. Raises `asyncio.IncompleteReadError` when the other side has closed."""
        header = await self.reader.readexactly(5)
        return header[:1], await self.reader.readexactly(int.from_bytes(header[1:]) - 4)

    async def until(self, kinds: bytes, count: int = 1) -> list[Frame]:
        """Read up to and with the `count`th frame whose type is in `kinds`.

        Or to the end of the stream, where that comes first: compare, and it shows.
        """
        frames: list[Frame] = []
        while count:
            try:
                frames.append(await self.read())
            except asyncio.IncompleteReadError as end:
                if end.partial:
                    raise
                break
            count -= frames[-1][0] in kinds
        return frames

    async def ask(self, *messages: bytes, ready: int = 1) -> list[Frame]:
        """Send messages and read up to the `ready`th ReadyForQuery."""
        await self.send(*messages)
        return await self.until(b"Z", ready)

    def key(self) -> tuple[int, bytes]:
        """The process id and the secret of BackendKeyData."""
        body = next(body for kind, body in self.startup if kind == b"K")
        return int.from_bytes(body[:4]), body[4:]

    def parameters(self) -> dict[str, str]:
        """What the server said of itself at the start: ParameterStatus."""
        pairs = (body.split(b"\0") for kind, body in self.startup if kind == b"S")
        return {pair[0].decode(): pair[1].decode() for pair in pairs}

    async def close(self) -> None:
        """Terminate. Whether the other side still listens does not matter."""
        with contextlib.suppress(OSError):
            await self.send(TERMINATE)
        await self.drop()

    async def drop(self) -> None:
        """Close without a word."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


async def replies(address: Address, *messages: bytes, ready: int = 1, **login: str) -> list[Frame]:
    """What a new connection is answered to `messages`, up to the `ready`th ReadyForQuery."""
    async with await Wire.connect(address, **login) as wire:  # type: ignore[arg-type]
        return await wire.ask(*messages, ready=ready)


def fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or a NoticeResponse by their letter: C is the SQLSTATE."""
    parts = body.rstrip(b"\0").split(b"\0")
    return {part[:1].decode(): part[1:].decode() for part in parts if part}


def errors(frames: Sequence[Frame]) -> list[str]:
    """The SQLSTATEs of the ErrorResponses among `frames`."""
    return [fields(body)["C"] for kind, body in frames if kind == b"E"]


def rows(frames: Sequence[Frame]) -> list[list[bytes | None]]:
    """The columns of the DataRows among `frames`."""
    return [_columns(body) for kind, body in frames if kind == b"D"]


def _columns(body: bytes) -> list[bytes | None]:
    columns: list[bytes | None] = []
    at = 2
    for _ in range(int.from_bytes(body[:2])):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        columns.append(None if length < 0 else body[at : at + length])
        at += max(length, 0)
    return columns


# --- messages (Message Formats, in the chapter of the protocol)


def message(kind: bytes, body: bytes = b"") -> bytes:
    """Any message with a type byte."""
    return kind + struct.pack("!i", len(body) + 4) + body


def untyped(code: int, body: bytes = b"") -> bytes:
    """A message of the start-up phase, which has no type byte."""
    return struct.pack("!ii", len(body) + 8, code) + body


def startup(user: str, database: str, protocol: int = PROTOCOL_3_0, **parameters: str) -> bytes:
    """StartupMessage."""
    pairs = {"user": user, "database": database, **parameters}
    body = b"".join(_text(part) for pair in pairs.items() for part in pair)
    return untyped(protocol, body + b"\0")


def cancel_request(pid: int, secret: bytes) -> bytes:
    """CancelRequest."""
    return untyped(80877102, struct.pack("!i", pid) + secret)


def query(sql: str) -> bytes:
    """Query: the simple protocol."""
    return message(b"Q", _text(sql))


def parse(sql: str, name: str = "", types: Sequence[int] = ()) -> bytes:
    """Parse; `types` are the OIDs of the parameters."""
    return message(b"P", _text(name) + _text(sql) + _list("!I", types))


def bind(
    *values: bytes | None,
    portal: str = "",
    statement: str = "",
    formats: Sequence[int] = (),
    result_formats: Sequence[int] = (),
) -> bytes:
    """Bind; a format is 0 for text and 1 for binary."""
    body = _text(portal) + _text(statement) + _list("!h", formats) + _values(values)
    return message(b"B", body + _list("!h", result_formats))


def describe(kind: str, name: str = "") -> bytes:
    """Describe; `kind` is S for a statement, P for a portal."""
    return message(b"D", kind.encode() + _text(name))


def execute(portal: str = "", limit: int = 0) -> bytes:
    """Execute."""
    return message(b"E", _text(portal) + struct.pack("!i", limit))


def close(kind: str, name: str = "") -> bytes:
    """Close; `kind` is S for a statement, P for a portal."""
    return message(b"C", kind.encode() + _text(name))


def copy_data(data: bytes) -> bytes:
    """CopyData."""
    return message(b"d", data)


def copy_fail(reason: str) -> bytes:
    """CopyFail."""
    return message(b"f", _text(reason))


def function_call(function: int, *values: bytes | None) -> bytes:
    """FunctionCall with arguments and result in text."""
    body = struct.pack("!I", function) + _list("!h", ()) + _values(values) + struct.pack("!h", 0)
    return message(b"F", body)


SSL_REQUEST: Final = untyped(80877103)
GSSENC_REQUEST: Final = untyped(80877104)
SYNC: Final = message(b"S")
FLUSH: Final = message(b"H")
COPY_DONE: Final = message(b"c")
TERMINATE: Final = message(b"X")


def _text(text: str) -> bytes:
    return text.encode() + b"\0"


def _list(item: str, values: Sequence[int]) -> bytes:
    return struct.pack("!h", len(values)) + b"".join(struct.pack(item, value) for value in values)


def _values(values: Sequence[bytes | None]) -> bytes:
    sized = (
        struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
        for value in values
    )
    return struct.pack("!h", len(values)) + b"".join(sized)
