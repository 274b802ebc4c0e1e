"""The bodies of the frames the proxy opens, taken apart. PURE.

Each function gets a body (the bytes after type and length) and returns its fields as bytes. A body
that does not hold what its type promises raises PgError 08P01 in the words of PostgreSQL's own
parser (pqformat.c); no other exception ever comes out, whatever the bytes.
"""

from pgproxy.errors import PROTOCOL_VIOLATION, PgError
from pgproxy.frames import codes

# A 16-bit count of oids and nothing else: what almost every Parse ends with.
_NO_TYPES = b"\x00\x00"


def _bad_string() -> PgError:
    return PgError(PROTOCOL_VIOLATION, "invalid string in message")


def _too_short() -> PgError:
    return PgError(PROTOCOL_VIOLATION, "insufficient data left in message")


def _bad_format() -> PgError:
    return PgError(PROTOCOL_VIOLATION, "invalid message format")


def cstring(body: bytes, offset: int) -> tuple[bytes, int]:
    """The NUL-terminated string at `offset`, and the offset after its NUL."""
    end = body.find(b"\x00", offset)
    if end < 0:
        raise _bad_string()
    return body[offset:end], end + 1


def int16(body: bytes, offset: int) -> int:
    """The unsigned 16-bit number at `offset`."""
    if offset + 2 > len(body):
        raise _too_short()
    return int.from_bytes(body[offset : offset + 2], "big")


def int32(body: bytes, offset: int) -> int:
    """The signed 32-bit number at `offset`."""
    if offset + 4 > len(body):
        raise _too_short()
    return int.from_bytes(body[offset : offset + 4], "big", signed=True)


def _last_cstring(body: bytes, offset: int) -> bytes:
    """The NUL-terminated string that must fill the body from `offset` on."""
    end = body.find(b"\x00", offset)
    if end < 0:
        raise _bad_string()
    if end + 1 != len(body):
        raise _bad_format()
    return body[offset:end]


# From clients.


def query_text(body: bytes) -> bytes:
    """Query: its text."""
    return _last_cstring(body, 0)


def parse_message(body: bytes) -> tuple[bytes, bytes, bytes]:
    """Parse: (statement name, text, parameter types as they came: 16-bit count and oids)."""
    name_end = body.find(b"\x00")
    if name_end < 0:
        raise _bad_string()
    sql_end = body.find(b"\x00", name_end + 1)
    if sql_end < 0:
        raise _bad_string()
    types = body[sql_end + 1 :]
    if types != _NO_TYPES:
        expected = 2 + 4 * int16(types, 0)
        if len(types) < expected:
            raise _too_short()
        if len(types) > expected:
            raise _bad_format()
    return body[:name_end], body[name_end + 1 : sql_end], types


def bind_names(body: bytes) -> tuple[bytes, bytes, int]:
    """Bind: (portal, statement, offset of what follows both). The values are not looked at."""
    portal_end = body.find(b"\x00")
    if portal_end < 0:
        raise _bad_string()
    statement_end = body.find(b"\x00", portal_end + 1)
    if statement_end < 0:
        raise _bad_string()
    return body[:portal_end], body[portal_end + 1 : statement_end], statement_end + 1


def bind_parameter(rest: bytes, index: int) -> bytes | None:
    """Bind: the value of one parameter as it was sent, from what follows the names; None for NULL
    and where there is no such parameter. Raises PgError 08P01."""
    at = 2 + 2 * int16(rest, 0)
    count = int16(rest, at)
    at += 2
    if not 0 <= index < count:
        return None
    for _ in range(index):
        at += 4 + max(int32(rest, at), 0)
    length = int32(rest, at)
    if length < 0:
        return None
    if at + 4 + length > len(rest):
        raise _too_short()
    return rest[at + 4 : at + 4 + length]


def execute_target(body: bytes) -> tuple[bytes, int]:
    """Execute: (portal, most rows to return, 0 or less for all)."""
    portal, offset = cstring(body, 0)
    limit = int32(body, offset)
    if offset + 4 != len(body):
        raise _bad_format()
    return portal, limit


def describe_target(body: bytes) -> tuple[int, bytes]:
    """Describe: (codes.TARGET_STATEMENT or codes.TARGET_PORTAL, name)."""
    return _target(body, "DESCRIBE")


def close_target(body: bytes) -> tuple[int, bytes]:
    """Close: (codes.TARGET_STATEMENT or codes.TARGET_PORTAL, name)."""
    return _target(body, "CLOSE")


def _target(body: bytes, message: str) -> tuple[int, bytes]:
    if not body:
        raise PgError(PROTOCOL_VIOLATION, "no data left in message")
    name = _last_cstring(body, 1)
    kind = body[0]
    if kind not in (codes.TARGET_STATEMENT, codes.TARGET_PORTAL):
        raise PgError(PROTOCOL_VIOLATION, f"invalid {message} message subtype {kind}")
    return kind, name


def sasl_initial_response(body: bytes) -> tuple[bytes, bytes | None]:
    """SASLInitialResponse: (mechanism, data; None where the client sends none)."""
    mechanism, offset = cstring(body, 0)
    length = int32(body, offset)
    offset += 4
    if length == -1:
        if offset != len(body):
            raise _bad_format()
        return mechanism, None
    if length < 0 or offset + length > len(body):
        raise _too_short()
    if offset + length != len(body):
        raise _bad_format()
    return mechanism, body[offset:]


# From servers.


def authentication(body: bytes) -> tuple[int, bytes]:
    """Any Authentication frame: (codes.AUTH_*, the data after it)."""
    return int32(body, 0), body[4:]


def sasl_mechanisms(data: bytes) -> list[bytes]:
    """The data of AuthenticationSASL: the names of the mechanisms offered."""
    mechanisms: list[bytes] = []
    offset = 0
    while True:
        mechanism, offset = cstring(data, offset)
        if not mechanism:
            break
        mechanisms.append(mechanism)
    if offset != len(data):
        raise _bad_format()
    return mechanisms


def error_fields(body: bytes) -> dict[str, str]:
    """ErrorResponse or NoticeResponse: the text of each field by its letter ("C": SQLSTATE, ...).

    Bytes that are not UTF-8 (the server speaks the client's encoding) become U+FFFD.
    """
    fields: dict[str, str] = {}
    offset = 0
    while True:
        if offset >= len(body):
            raise _too_short()
        letter = body[offset]
        offset += 1
        if letter == 0:
            break
        text, offset = cstring(body, offset)
        fields[chr(letter)] = text.decode("utf-8", "replace")
    if offset != len(body):
        raise _bad_format()
    return fields


def server_error(body: bytes, otherwise: str, *, severity: str = "ERROR") -> PgError:
    """ErrorResponse, to be told on; `otherwise` is what it says without a message."""
    fields = error_fields(body)
    return PgError(
        fields.get("C", "XX000"),
        fields.get("M", otherwise),
        severity=severity,
        detail=fields.get("D", ""),
        hint=fields.get("H", ""),
    )


def parameter_status(body: bytes) -> tuple[bytes, bytes]:
    """ParameterStatus: (name, value)."""
    name, offset = cstring(body, 0)
    return name, _last_cstring(body, offset)


def backend_key_data(body: bytes) -> tuple[int, bytes]:
    """BackendKeyData: (process id, secret of 4 to 256 bytes)."""
    pid = int32(body, 0)
    secret = body[4:]
    if len(secret) < codes.MIN_SECRET_LENGTH:
        raise _too_short()
    if len(secret) > codes.MAX_SECRET_LENGTH:
        raise _bad_format()
    return pid, secret


def negotiate_protocol_version(body: bytes) -> tuple[int, list[bytes]]:
    """NegotiateProtocolVersion: (newest version as a full number, options not known)."""
    version = int32(body, 0)
    count = int32(body, 4)
    unknown: list[bytes] = []
    offset = 8
    # Each name takes a byte at least: a lying count ends at the end of the body.
    for _ in range(count):
        name, offset = cstring(body, offset)
        unknown.append(name)
    if offset != len(body):
        raise _bad_format()
    return version, unknown


def command_tag(body: bytes) -> bytes:
    """CommandComplete: the tag, as in b"INSERT 0 1"."""
    return _last_cstring(body, 0)


def ready_status(body: bytes) -> int:
    """ReadyForQuery: one of codes.STATUS_*."""
    if not body:
        raise _too_short()
    status = body[0]
    if len(body) != 1 or (
        status not in (codes.STATUS_IDLE, codes.STATUS_IN_TRANSACTION, codes.STATUS_FAILED)
    ):
        raise _bad_format()
    return status


def sqlstate(frame: bytes) -> bytes:
    """The SQLSTATE of an ErrorResponse or NoticeResponse; b"" if it has none."""
    field = frame.find(b"\x00C", 5)
    return frame[field + 2 : field + 7] if field >= 0 else b""


def is_fatal(frame: bytes) -> bool:
    """Whether an ErrorResponse is the last word on its connection."""
    return b"\x00VFATAL\x00" in frame or b"\x00VPANIC\x00" in frame


def is_shutdown(frame: bytes) -> bool:
    """Whether an ErrorResponse says FATAL 57P01: the server ends the connection, and what was in
    progress on it is undone."""
    return b"\x00VFATAL\x00" in frame and b"\x00C57P01\x00" in frame
