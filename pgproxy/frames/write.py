"""Every frame the proxy itself sends, as bytes ready for the wire. PURE.

One function per message, named as in the manual's "Message Formats"; messages without a body are
constants. Byte strings that stand for names and texts must hold no NUL (they come from
NUL-terminated fields); texts of errors lose theirs. Nothing here raises for values in range.
"""

from typing import Final

from pgproxy.errors import PgError
from pgproxy.frames import codes

PARSE_COMPLETE: Final = b"1\x00\x00\x00\x04"
BIND_COMPLETE: Final = b"2\x00\x00\x00\x04"
CLOSE_COMPLETE: Final = b"3\x00\x00\x00\x04"
NO_DATA: Final = b"n\x00\x00\x00\x04"
NO_PARAMETERS: Final = b"t\x00\x00\x00\x06\x00\x00"
EMPTY_QUERY_RESPONSE: Final = b"I\x00\x00\x00\x04"
PORTAL_SUSPENDED: Final = b"s\x00\x00\x00\x04"
AUTHENTICATION_OK: Final = b"R\x00\x00\x00\x08\x00\x00\x00\x00"
READY_IDLE: Final = b"Z\x00\x00\x00\x05I"
READY_IN_TRANSACTION: Final = b"Z\x00\x00\x00\x05T"
READY_FAILED: Final = b"Z\x00\x00\x00\x05E"
SYNC: Final = b"S\x00\x00\x00\x04"
FLUSH: Final = b"H\x00\x00\x00\x04"
TERMINATE: Final = b"X\x00\x00\x00\x04"

# What follows a column's name: no table, no attribute number, type text (oid 25), variable
# length, no modifier, text format.
TEXT_COLUMN: Final = (
    b"\x00" + bytes(6) + b"\x00\x00\x00\x19" + b"\xff\xff" + b"\xff\xff\xff\xff" + bytes(2)
)
NULL_VALUE: Final = b"\xff\xff\xff\xff"


def int16(value: int) -> bytes:
    """The two bytes of a count, 0 to 65535."""
    return value.to_bytes(2, "big")


def int32(value: int) -> bytes:
    """The four bytes of a number; a negative one by its two's complement."""
    return (value & 0xFFFFFFFF).to_bytes(4, "big")


def frame(type: int, body: bytes) -> bytes:
    """A frame of any type byte around `body`."""
    return bytes((type,)) + int32(len(body) + 4) + body


# To clients.


def ready_for_query(status: int) -> bytes:
    """ReadyForQuery with one of codes.STATUS_*."""
    if status == codes.STATUS_IDLE:
        return READY_IDLE
    if status == codes.STATUS_IN_TRANSACTION:
        return READY_IN_TRANSACTION
    return READY_FAILED


def command_complete(tag: bytes) -> bytes:
    """CommandComplete: `tag` as in b"SELECT 1"."""
    return frame(codes.B_COMMAND_COMPLETE, tag + b"\x00")


def error_response(error: PgError) -> bytes:
    """ErrorResponse with the fields of `error`; the routine (R) tells whether it is ours."""
    return frame(codes.B_ERROR_RESPONSE, _report(error))


def notice_response(notice: PgError) -> bytes:
    """NoticeResponse; `notice.severity` is WARNING, NOTICE, INFO, LOG or DEBUG."""
    return frame(codes.B_NOTICE_RESPONSE, _report(notice))


def _report(report: PgError) -> bytes:
    """The body of an ErrorResponse or a NoticeResponse, in PostgreSQL's order of fields.

    S is the severity in the user's language and V the same untranslated: both are ours.
    """
    parts = [
        _field(b"S", report.severity),
        _field(b"V", report.severity),
        _field(b"C", report.sqlstate),
        _field(b"M", report.message),
    ]
    if report.detail:
        parts.append(_field(b"D", report.detail))
    if report.hint:
        parts.append(_field(b"H", report.hint))
    parts.append(_field(b"R", report.routine) + b"\x00")
    return b"".join(parts)


def _field(key: bytes, text: str) -> bytes:
    # "replace": a text quoted from a client may hold what came in as undecodable bytes.
    return key + text.replace("\x00", "").encode("utf-8", "replace") + b"\x00"


def parameter_status(name: bytes, value: bytes) -> bytes:
    """ParameterStatus: a setting's present value."""
    return frame(codes.B_PARAMETER_STATUS, name + b"\x00" + value + b"\x00")


def backend_key_data(pid: int, secret: bytes) -> bytes:
    """BackendKeyData: what a client needs to cancel. `secret` is 4 bytes before protocol 3.2."""
    return frame(codes.B_BACKEND_KEY_DATA, int32(pid) + secret)


def negotiate_protocol_version(version: int, unknown: list[bytes]) -> bytes:
    """NegotiateProtocolVersion: the newest version spoken, and the options not known.

    `version` is the full number (codes.PROTOCOL_3_2): that is what PostgreSQL 18 sends and libpq
    reads, where the manual says "minor version". `unknown` are names beginning with `_pq_.`.
    """
    names = b"".join([name + b"\x00" for name in unknown])
    return frame(codes.B_NEGOTIATE_PROTOCOL_VERSION, int32(version) + int32(len(unknown)) + names)


def row_description(names: list[bytes]) -> bytes:
    """RowDescription of columns that are all of type text, in text format."""
    columns = b"".join([name + TEXT_COLUMN for name in names])
    return frame(codes.B_ROW_DESCRIPTION, int16(len(names)) + columns)


def data_row(values: list[bytes | None]) -> bytes:
    """DataRow; None is NULL."""
    parts = [int16(len(values))]
    for value in values:
        if value is None:
            parts.append(NULL_VALUE)
        else:
            parts.append(int32(len(value)))
            parts.append(value)
    return frame(codes.B_DATA_ROW, b"".join(parts))


def authentication_cleartext() -> bytes:
    """AuthenticationCleartextPassword."""
    return _authentication(codes.AUTH_CLEARTEXT, b"")


def authentication_md5(salt: bytes) -> bytes:
    """AuthenticationMD5Password with 4 bytes of salt."""
    return _authentication(codes.AUTH_MD5, salt)


def authentication_sasl(mechanisms: list[bytes]) -> bytes:
    """AuthenticationSASL: the mechanisms offered, in the server's order of preference."""
    names = b"".join([mechanism + b"\x00" for mechanism in mechanisms])
    return _authentication(codes.AUTH_SASL, names + b"\x00")


def authentication_sasl_continue(data: bytes) -> bytes:
    """AuthenticationSASLContinue with the mechanism's own data."""
    return _authentication(codes.AUTH_SASL_CONTINUE, data)


def authentication_sasl_final(data: bytes) -> bytes:
    """AuthenticationSASLFinal with the mechanism's own data."""
    return _authentication(codes.AUTH_SASL_FINAL, data)


def _authentication(code: int, data: bytes) -> bytes:
    return frame(codes.B_AUTHENTICATION, int32(code) + data)


# To servers.


def startup_message(version: int, parameters: list[tuple[bytes, bytes]]) -> bytes:
    """StartupMessage: `version` as in codes.PROTOCOL_3_0; protocol options are parameters too."""
    pairs = b"".join([name + b"\x00" + value + b"\x00" for name, value in parameters])
    return _untyped(int32(version) + pairs + b"\x00")


def cancel_request(pid: int, secret: bytes) -> bytes:
    """CancelRequest with the key that BackendKeyData gave."""
    return _untyped(int32(codes.CANCEL_REQUEST) + int32(pid) + secret)


def _untyped(body: bytes) -> bytes:
    """A first packet: length and body, without a type byte."""
    return int32(len(body) + 4) + body


def password_message(payload: bytes) -> bytes:
    """PasswordMessage or SASLResponse: `payload` as the method wants it (a password needs its
    final NUL)."""
    return frame(codes.F_PASSWORD, payload)


def sasl_initial_response(mechanism: bytes, data: bytes) -> bytes:
    """SASLInitialResponse: the mechanism chosen and its first data."""
    return frame(codes.F_PASSWORD, mechanism + b"\x00" + int32(len(data)) + data)


def query(sql: bytes) -> bytes:
    """Query."""
    return frame(codes.F_QUERY, sql + b"\x00")


def parse(name: bytes, sql: bytes, parameter_types: bytes) -> bytes:
    """Parse. `parameter_types` is already encoded: a 16-bit count and as many 32-bit oids."""
    return frame(codes.F_PARSE, name + b"\x00" + sql + b"\x00" + parameter_types)


def close_statement(name: bytes) -> bytes:
    """Close of a prepared statement."""
    return frame(codes.F_CLOSE, b"S" + name + b"\x00")


def describe_statement(name: bytes) -> bytes:
    """Describe of a prepared statement."""
    return frame(codes.F_DESCRIBE, b"S" + name + b"\x00")


SSL_REQUEST: Final = _untyped(int32(codes.SSL_REQUEST))
