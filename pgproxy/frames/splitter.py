"""HOT, PURE. Cuts a byte stream into frames without copying what need not be read.

A frame is a type byte, an int32 length that counts itself, and a body ("Message Formats" in the
PostgreSQL manual). Most frames only pass through: rows, copy data. So a `Splitter` is told by a
table which types its owner wants to see, walks over all others by their headers, and stops at the
first wanted one:

    splitter.feed(chunk)
    while (kind := splitter.next()) != NEED_DATA:
        ...  splitter.data[splitter.start : splitter.end] is that frame
    ...      splitter.data[splitter.keep : splitter.passed] may now be sent on

Everything from `keep` on is retained for the next `feed`; the owner moves `keep` forward as it
disposes of bytes. A frame that is larger than what is worth buffering is shown by its first
`prefix` (or `text`) bytes (`end` then lies beyond the data) and the rest of it passes through.

Whatever way a stream is cut into chunks, the same frames are shown (tests/properties).
"""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.errors import PROTOCOL_VIOLATION, PgError
from pgproxy.frames.codes import MAX_FRAME_LENGTH

NEED_DATA: Final = 0
# Pieces of a frame that are kept apart: each costs more than a byte or two that it may hold.
MANY_PARTS: Final = 1000

# What the owner wants to see of a frame, by its type byte.
REFUSE: Final = 0  # never legal here
PASS: Final = 1  # nothing: it passes by
HEADER: Final = 2  # that it is there; the body may still be on its way
BODY: Final = 3  # the body as well, up to `prefix` bytes of it
TEXT: Final = 4  # the body as well, up to `text` bytes of it


def wants(*, pass_by: bytes, header: bytes, body: bytes, text: bytes = b"") -> bytes:
    """The 256-entry table for a `Splitter`; types not named are refused."""
    table = bytearray(256)
    for kind in pass_by:
        table[kind] = PASS
    for kind in header:
        table[kind] = HEADER
    for kind in body:
        table[kind] = BODY
    for kind in text:
        table[kind] = TEXT
    return bytes(table)


@final
class Splitter:
    """One direction of one connection. `kind`, `start`, `end` describe the frame last shown."""

    def __init__(self, table: bytes, prefix: int = 65536, text: int = 65536) -> None:
        self.table = table
        self.prefix: i64 = prefix
        self.text: i64 = text
        self.data = b""
        self.size: i64 = 0
        self.pos: i64 = 0  # where the next frame starts; beyond `size` while one is passing
        self.keep: i64 = 0  # nothing before this is needed any more
        self.kind: i64 = 0
        self.start: i64 = 0
        self.end: i64 = 0
        self._needed: i64 = 0  # `data` must grow to this size before `next` can show a frame
        self._parts: list[bytes] = []
        self._parts_size: i64 = 0

    @property
    def passed(self) -> int:
        """End of the bytes that have been walked over (never beyond the data)."""
        return self.pos if self.pos < self.size else self.size

    @property
    def passing(self) -> bool:
        """Part of a frame has been disposed of, and the rest of it has not come yet."""
        return self.pos > self.size and self.keep >= self.size and self._parts_size == 0

    @property
    def held(self) -> int:
        """Bytes that are retained."""
        return self._parts_size if self._parts_size else self.size - self.keep

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes; positions are relative to the new `data` afterwards."""
        keep = self.keep
        size = self.size
        if keep >= size and self._parts_size == 0:
            self.data = chunk
            self.pos -= size
            self.size = len(chunk)
            self.keep = 0
            return
        self._feed_behind(chunk)

    def _feed_behind(self, chunk: bytes) -> None:
        # Joining at every chunk would cost the square of a frame's size when a peer sends it in
        # many small pieces, so pieces are collected until the frame can be shown.
        if self._parts_size == 0:
            tail = self.data[self.keep :] if self.keep else self.data
            self._parts.append(tail)
            self._parts_size = len(tail)
            self.pos -= self.keep
            self._needed -= self.keep
            self.data = b""
            self.size = 0
            self.keep = 0
        self._parts.append(chunk)
        self._parts_size += len(chunk)
        if self._parts_size < self._needed:
            if len(self._parts) > MANY_PARTS:
                self._parts = [b"".join(self._parts)]
            return
        self.data = b"".join(self._parts)
        self.size = self._parts_size
        self._parts.clear()
        self._parts_size = 0

    def next(self) -> i64:
        """The type of the next wanted frame, or NEED_DATA.

        Raises `PgError` (08P01) for an impossible length or a refused type.
        """
        if self._parts_size:
            return NEED_DATA
        data = self.data
        size = self.size
        pos = self.pos
        table = self.table
        while pos + 5 <= size:
            kind: i64 = data[pos]
            length: i64 = (
                (i64(data[pos + 1]) << 24)
                | (i64(data[pos + 2]) << 16)
                | (i64(data[pos + 3]) << 8)
                | i64(data[pos + 4])
            )
            want: i64 = table[kind]
            if want == REFUSE:
                raise PgError(PROTOCOL_VIOLATION, f"invalid message type {kind}", severity="FATAL")
            if length < 4 or length > MAX_FRAME_LENGTH:
                raise PgError(PROTOCOL_VIOLATION, "invalid message length", severity="FATAL")
            end = pos + 1 + length
            if want == PASS:
                pos = end
                continue
            if want >= BODY and end > size:
                limit = self.text if want == TEXT else self.prefix
                if size - pos < limit:
                    self.pos = pos
                    self._needed = min(end, pos + limit)
                    return NEED_DATA
            self.kind = kind
            self.start = pos
            self.end = end
            self.pos = end
            return kind
        self.pos = pos
        self._needed = pos + 5 if pos < size else 0
        return NEED_DATA

    def rewind(self, pos: int) -> None:
        """Shows the frames from `pos` (a frame's start, not before `keep`) again."""
        self.pos = pos

    def replace(self, frame: bytes) -> None:
        """Puts another one in place of the frame shown, all of which is here."""
        self.data = self.data[: self.start] + frame + self.data[self.end :]
        more = len(frame) - (self.end - self.start)
        self.end += more
        self.pos += more
        self.size += more

    def __repr__(self) -> str:
        return (
            f"<Splitter pos={self.pos} keep={self.keep} size={self.size} held={self._parts_size}>"
        )
