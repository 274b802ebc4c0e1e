"""HOT, PURE. The frames of a batch that depend on the server, and what may be sent instead.

Which of it is sent to a server, by what that has prepared, says routing/rewrite.py.
"""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.frames import write
from pgproxy.frames.codes import F_BIND
from pgproxy.frames.splitter import Splitter
from pgproxy.protocol.prepared import SERVER_PREFIX, Statement

# Why a frame may have to be altered.
MAKE: Final = 0  # named Parse: rename, or leave out where the server has it
USE: Final = 1  # Bind or Describe of a named statement: rename, prepare it first where missing
USE_UNNAMED: Final = 2  # of an unnamed statement that an earlier batch parsed
SUBSTITUTE: Final = 3  # send other bytes

# A Bind that always fails: numbered names only are ever prepared.
FAILING_BIND: Final = write.frame(F_BIND, b"\x00" + SERVER_PREFIX + b"\x00" + b"\x00" * 6)


@final
class Edit:
    """What is between `start` and `end` in a batch's bytes, and may be replaced."""

    def __init__(
        self, kind: int, start: i64, end: i64, at: i64, statement: Statement | None, frame: bytes
    ) -> None:
        self.kind: i64 = kind
        self.start = start
        self.end = end
        self.at = at  # index in `owed` of the frame's own entry
        self.statement = statement
        self.frame = frame  # what is sent instead


def bind_of(name: bytes, splitter: Splitter, portal_end: i64, name_end: i64) -> bytes:
    """The Bind shown, as far as it has come, of the statement with this name. `portal_end`,
    `name_end`: where the strings at its beginning end."""
    data = splitter.data
    start = splitter.start
    shown = splitter.end if splitter.end < splitter.size else splitter.size
    length = splitter.end - start - 1 + len(name) - (name_end - portal_end - 1)
    return b"".join(
        (
            b"B",
            write.int32(int(length)),
            data[start + 5 : portal_end + 1],
            name,
            data[name_end:shown],
        )
    )
