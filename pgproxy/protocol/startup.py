"""The first packet of a connection: what the client asks for. PURE.

The shell reads four bytes, asks `startup_length` how many more there are, and gives the whole packet
to `parse_startup`. It answers SSLRequest and GSSENCRequest with one byte and reads another first
packet; a CancelRequest gets no answer at all; a StartupMessage opens a session. Whatever the bytes,
the only exception is PgError FATAL, in the words of PostgreSQL 18 (ProcessStartupPacket).
"""

from typing import Final, final

from pgproxy.errors import (
    FEATURE_NOT_SUPPORTED,
    INVALID_AUTHORIZATION,
    INVALID_PARAMETER_VALUE,
    PROTOCOL_VIOLATION,
    PgError,
)
from pgproxy.frames import codes, write

SYNTAX_ERROR: Final = "42601"
# Bytes of a name that PostgreSQL keeps: NAMEDATALEN - 1. It cuts longer ones silently here.
MAX_NAME_LENGTH: Final = 63
# What C's isspace() means in PostgreSQL's locale-free splitting of `options`.
SPACES: Final = " \t\n\v\f\r"


@final
class StartupMessage:
    """A client that wants a session.

    `parameters` and `protocol_options` (names beginning with `_pq_.`) hold what was sent, in order.
    The rest is drawn from them as PostgreSQL does: of a name sent twice the last counts, `database`
    defaults to the user, and `settings` is what is neither user, database, options nor
    replication. Texts are UTF-8 with surrogateescape, so that encoding them gives the same bytes.
    """

    def __init__(
        self,
        version: int,
        parameters: list[tuple[bytes, bytes]],
        protocol_options: list[tuple[bytes, bytes]],
    ) -> None:
        self.version: int = version
        self.parameters: list[tuple[bytes, bytes]] = parameters
        self.protocol_options: list[tuple[bytes, bytes]] = protocol_options
        self.settings: list[tuple[bytes, bytes]] = []
        # "", "true" (physical replication, no database) or "database" (logical).
        self.replication: str = ""
        self.options: str = ""
        user = b""
        database = b""
        for name, value in parameters:
            if name == b"user":
                user = value
            elif name == b"database":
                database = value
            elif name == b"options":
                self.options = _text(value)
            elif name == b"replication":
                self.replication = _replication(_text(value))
            else:
                self.settings.append((name, value))
        if not user:
            raise _fatal(
                INVALID_AUTHORIZATION, "no PostgreSQL user name specified in startup packet"
            )
        self.user: str = _text(user[:MAX_NAME_LENGTH])
        self.database: str = _text((database or user)[:MAX_NAME_LENGTH])

    @property
    def negotiated(self) -> int:
        """The version both sides speak from here on, as a full number."""
        return min(self.version, codes.PROTOCOL_3_2)


@final
class CancelRequest:
    """A client that wants the statement of another session stopped."""

    def __init__(self, pid: int, secret: bytes) -> None:
        self.pid: int = pid
        self.secret: bytes = secret


@final
class SSLRequest:
    """A client that wants TLS first: answered with S or N."""


@final
class GSSENCRequest:
    """A client that wants GSSAPI encryption first: answered with G or N."""


FirstPacket = StartupMessage | CancelRequest | SSLRequest | GSSENCRequest


def startup_length(header: bytes) -> int:
    """The length in bytes of a whole first packet, these first four bytes of it included.

    Raises PgError 08P01 for a length no first packet has, which is also what HTTP and TLS clients
    get: their first bytes are a huge length.
    """
    length = int.from_bytes(header[:4], "big")
    if len(header) < 4 or length < 8 or length - 4 > codes.MAX_STARTUP_LENGTH:
        raise _fatal(PROTOCOL_VIOLATION, "invalid length of startup packet")
    return length


def parse_startup(packet: bytes) -> FirstPacket:
    """What a whole first packet asks for.

    Raises PgError FATAL: 0A000 for another major version, 08P01 for a packet that is not laid out
    as one, 28000 without a user, 22023 for an impossible `replication`.
    """
    if len(packet) != startup_length(packet):
        raise _fatal(PROTOCOL_VIOLATION, "incomplete startup packet")
    version = int.from_bytes(packet[4:8], "big")
    if version == codes.CANCEL_REQUEST:
        return _parse_cancel_request(packet)
    if version == codes.SSL_REQUEST:
        return SSLRequest()
    if version == codes.GSSENC_REQUEST:
        return GSSENCRequest()
    major = version >> 16
    if major != 3:
        minor = version & 0xFFFF
        raise _fatal(
            FEATURE_NOT_SUPPORTED,
            f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2",
        )
    return _parse_startup_message(version, packet)


def _parse_cancel_request(packet: bytes) -> CancelRequest:
    secret = packet[12:]
    if not 0 < len(secret) <= codes.MAX_SECRET_LENGTH:
        raise _fatal(PROTOCOL_VIOLATION, "invalid length of cancel key in cancel request packet")
    return CancelRequest(int.from_bytes(packet[8:12], "big", signed=True), secret)


def _parse_startup_message(version: int, packet: bytes) -> StartupMessage:
    parameters: list[tuple[bytes, bytes]] = []
    protocol_options: list[tuple[bytes, bytes]] = []
    last = len(packet) - 1
    offset = 8
    while True:
        name_end = packet.find(b"\x00", offset)
        if name_end == offset or name_end < 0:
            break
        value_end = packet.find(b"\x00", name_end + 1)
        if value_end < 0:
            offset = -1
            break
        name = packet[offset:name_end]
        value = packet[name_end + 1 : value_end]
        if name.startswith(b"_pq_."):
            protocol_options.append((name, value))
        else:
            parameters.append((name, value))
        offset = value_end + 1
    if offset != last or packet[last] != 0:
        raise _fatal(
            PROTOCOL_VIOLATION, "invalid startup packet layout: expected terminator as last byte"
        )
    return StartupMessage(version, parameters, protocol_options)


def negotiate(message: StartupMessage) -> bytes | None:
    """The NegotiateProtocolVersion this client must be sent before anything else, if any.

    3.1 was never released and needs none: PostgreSQL 18 takes it for 3.0 with its short keys.
    """
    if message.version <= codes.PROTOCOL_3_2 and not message.protocol_options:
        return None
    unknown = [name for name, _ in message.protocol_options]
    return write.negotiate_protocol_version(message.negotiated, unknown)


def _fatal(sqlstate: str, message: str, hint: str = "") -> PgError:
    return PgError(sqlstate, message, severity="FATAL", hint=hint)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _replication(value: str) -> str:
    if value == "database":
        return "database"
    word = value.lower()
    # parse_bool: any beginning of the four words that tells which, and the whole of on, 1 and 0.
    if word and ("true".startswith(word) or "yes".startswith(word) or word in {"on", "1"}):
        return "true"
    if word and ("false".startswith(word) or "no".startswith(word) or word in {"of", "off", "0"}):
        return ""
    raise _fatal(
        INVALID_PARAMETER_VALUE,
        f'invalid value for parameter "replication": "{value}"',
        'Valid values are: "false", 0, "true", 1, "database".',
    )


# The `options` parameter: a postgres command line in one string.


def split_options(value: str) -> list[tuple[str, str]]:
    """The settings in an `options` parameter, as (name, value) in the order given.

    Knows `-c name=value`, `-cname=value`, `--name=value` and the old one-letter switches that stand
    for settings a session can change (-e -f -O -S -s -t). Raises PgError FATAL 42601 for the rest.
    """
    words = split_words(value)
    settings: list[tuple[str, str]] = []
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if word == "--" and index == len(words):
            break
        if len(word) < 2 or word[0] != "-" or word == "--":
            raise _invalid_argument(word if word != "--" else words[index])
        # As getopt reads it: letters without argument may be bundled, and an argument is the rest
        # of the word, or else the next word.
        at = 1
        while at < len(word):
            letter = word[at]
            at += 1
            if letter == "e":
                settings.append(("datestyle", "euro"))
            elif letter == "s":
                settings.append(("log_statement_stats", "true"))
            elif letter == "O":
                settings.append(("allow_system_table_mods", "true"))
            elif letter in "c-fSt":
                argument = word[at:]
                at = len(word)
                if not argument:
                    if index == len(words):
                        raise _invalid_argument(word)
                    argument = words[index]
                    index += 1
                settings.append(_switch(letter, argument, word))
            else:
                raise _invalid_argument(word)
    return settings


def split_words(value: str) -> list[str]:
    """The words of a command line as pg_split_opts cuts them.

    Spaces part words, and a backslash takes away the meaning of the character after it.
    """
    words: list[str] = []
    word = ""
    inside = False
    escaped = False
    for character in value:
        if escaped:
            word += character
            escaped = False
        elif character == "\\":
            inside = True
            escaped = True
        elif character in SPACES:
            if inside:
                words.append(word)
            word = ""
            inside = False
        else:
            word += character
            inside = True
    if inside:
        words.append(word)
    return words


def _switch(letter: str, argument: str, word: str) -> tuple[str, str]:
    """The setting that a switch with an argument stands for."""
    if letter == "S":
        return "work_mem", argument
    if letter == "f":
        plan = {
            "b": "enable_bitmapscan",
            "h": "enable_hashjoin",
            "i": "enable_indexscan",
            "m": "enable_mergejoin",
            "n": "enable_nestloop",
            "o": "enable_indexonlyscan",
            "s": "enable_seqscan",
            "t": "enable_tidscan",
        }.get(argument)
        if plan is None:
            raise _invalid_argument(word)
        return plan, "false"
    if letter == "t":
        for prefix, name in (("pa", "parser"), ("pl", "planner"), ("e", "executor")):
            if argument.startswith(prefix):
                return f"log_{name}_stats", "true"
        raise _invalid_argument(word)
    name, equals, setting = argument.partition("=")
    if not equals:
        option = f"--{argument}" if letter == "-" else f"-c {argument}"
        raise _fatal(SYNTAX_ERROR, f"{option} requires a value")
    return name.replace("-", "_"), setting


def _invalid_argument(word: str) -> PgError:
    return _fatal(
        SYNTAX_ERROR,
        f"invalid command-line argument for server process: {word}",
        "pgproxy takes -c name=value and --name=value.",
    )
