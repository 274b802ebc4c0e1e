"""First packets. What is expected here is what PostgreSQL 18 answers to the same bytes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.errors import PgError
from pgproxy.frames import codes, write
from pgproxy.protocol.startup import (
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    StartupMessage,
    negotiate,
    parse_startup,
    split_options,
    split_words,
    startup_length,
)

USER = (b"user", b"bob")


def packet(body: bytes) -> bytes:
    return struct.pack("!I", len(body) + 4) + body


def message(*parameters: tuple[bytes, bytes], version: int = codes.PROTOCOL_3_0) -> StartupMessage:
    parsed = parse_startup(write.startup_message(version, list(parameters)))
    assert isinstance(parsed, StartupMessage)
    return parsed


def refused(raw: bytes) -> tuple[str, str]:
    with pytest.raises(PgError) as caught:
        parse_startup(raw)
    assert caught.value.severity == "FATAL"
    return caught.value.sqlstate, caught.value.message


def test_a_session_is_asked_for_with_parameters_in_order() -> None:
    parsed = message(
        USER,
        (b"client_encoding", b"UTF8"),
        (b"database", b"shop"),
        (b"options", b"-c geqo=off"),
        (b"application_name", b"x"),
    )
    assert (parsed.user, parsed.database, parsed.options) == ("bob", "shop", "-c geqo=off")
    assert parsed.settings == [(b"client_encoding", b"UTF8"), (b"application_name", b"x")]
    assert [name for name, _ in parsed.parameters] == [
        b"user",
        b"client_encoding",
        b"database",
        b"options",
        b"application_name",
    ]
    assert parsed.replication == ""
    assert parsed.protocol_options == []


@pytest.mark.parametrize("parameters", [(USER,), (USER, (b"database", b""))])
def test_database_defaults_to_the_user(parameters: tuple[tuple[bytes, bytes], ...]) -> None:
    assert message(*parameters).database == "bob"


def test_the_last_of_a_repeated_parameter_counts() -> None:
    assert message(USER, (b"user", b"eve"), (b"database", b"a"), (b"database", b"b")).user == "eve"


def test_long_names_are_cut_as_postgresql_cuts_them() -> None:
    parsed = message((b"user", b"u" * 70), (b"database", b"d" * 70))
    assert (parsed.user, parsed.database) == ("u" * 63, "d" * 63)


def test_names_that_are_not_utf8_keep_their_bytes() -> None:
    parsed = message((b"user", b"caf\xe9"))
    assert parsed.user.encode("utf-8", "surrogateescape") == b"caf\xe9"


@pytest.mark.parametrize("parameters", [(), ((b"user", b""),), ((b"database", b"x"),)])
def test_a_user_is_required(parameters: tuple[tuple[bytes, bytes], ...]) -> None:
    assert refused(write.startup_message(codes.PROTOCOL_3_0, list(parameters))) == (
        "28000",
        "no PostgreSQL user name specified in startup packet",
    )


@pytest.mark.parametrize(
    ("value", "replication"),
    [
        (b"database", "database"),
        (b"true", "true"),
        (b"T", "true"),
        (b"on", "true"),
        (b"1", "true"),
        (b"ye", "true"),
        (b"false", ""),
        (b"off", ""),
        (b"of", ""),
        (b"no", ""),
        (b"0", ""),
    ],
)
def test_replication_is_a_boolean_or_a_database(value: bytes, replication: str) -> None:
    assert message(USER, (b"replication", value)).replication == replication


@pytest.mark.parametrize("value", [b"", b"o", b"maybe", b"Database", b"11", b"trueish"])
def test_another_replication_is_refused(value: bytes) -> None:
    raw = write.startup_message(codes.PROTOCOL_3_0, [USER, (b"replication", value)])
    assert refused(raw) == (
        "22023",
        f'invalid value for parameter "replication": "{value.decode()}"',
    )


@pytest.mark.parametrize(
    ("version", "named"),
    [(2 << 16, "2.0"), (4 << 16, "4.0"), (0, "0.0"), (1, "0.1"), (0xFFFFFFFF, "65535.65535")],
)
def test_another_major_version_is_refused_by_name(version: int, named: str) -> None:
    assert refused(write.startup_message(version, [USER])) == (
        "0A000",
        f"unsupported frontend protocol {named}: server supports 3.0 to 3.2",
    )


@pytest.mark.parametrize(
    "tail",
    [
        b"user\0bob\0",
        b"user\0bob",
        b"user\0",
        b"user",
        b"",
        b"user\0bob\0\0\0",
        b"\0user\0bob\0\0",
        b"user\0bob\0x",  # PostgreSQL overlooks this one
    ],
)
def test_a_broken_layout_is_refused(tail: bytes) -> None:
    assert refused(packet(struct.pack("!I", codes.PROTOCOL_3_0) + tail)) == (
        "08P01",
        "invalid startup packet layout: expected terminator as last byte",
    )


@pytest.mark.parametrize("version", [196608, 196609, 196610])
def test_versions_up_to_3_2_need_no_negotiation(version: int) -> None:
    parsed = message(USER, version=version)
    assert negotiate(parsed) is None
    assert parsed.negotiated == version


def test_a_newer_minor_version_is_negotiated_down() -> None:
    parsed = message(USER, version=codes.PROTOCOL_3_0 + 3)
    assert parsed.negotiated == codes.PROTOCOL_3_2
    assert negotiate(parsed) == b"v\x00\x00\x00\x0c\x00\x03\x00\x02\x00\x00\x00\x00"


def test_unknown_protocol_options_are_named_and_kept_apart() -> None:
    parsed = message(USER, (b"_pq_.foo", b"x"), (b"a", b"b"), (b"_pq_.bar", b"y"))
    assert parsed.protocol_options == [(b"_pq_.foo", b"x"), (b"_pq_.bar", b"y")]
    assert parsed.settings == [(b"a", b"b")]
    assert negotiate(parsed) == (
        b"v\x00\x00\x00\x1e\x00\x03\x00\x00\x00\x00\x00\x02_pq_.foo\x00_pq_.bar\x00"
    )


@pytest.mark.parametrize("length", [1, 4, 32, 256])
def test_a_cancel_request_holds_a_key_of_either_protocol(length: int) -> None:
    parsed = parse_startup(write.cancel_request(-5, b"k" * length))
    assert isinstance(parsed, CancelRequest)
    assert (parsed.pid, parsed.secret) == (-5, b"k" * length)


@pytest.mark.parametrize("body", [b"", b"\0\0\0\1", b"\0\0\0\1" + b"k" * 257])
def test_a_cancel_request_without_a_possible_key_is_refused(body: bytes) -> None:
    assert refused(packet(struct.pack("!I", codes.CANCEL_REQUEST) + body)) == (
        "08P01",
        "invalid length of cancel key in cancel request packet",
    )


def test_encryption_is_asked_for_by_number() -> None:
    assert isinstance(parse_startup(packet(struct.pack("!I", codes.SSL_REQUEST))), SSLRequest)
    assert isinstance(parse_startup(packet(struct.pack("!I", codes.GSSENC_REQUEST))), GSSENCRequest)


@pytest.mark.parametrize("length", [8, 16, 10004])
def test_lengths_postgresql_accepts(length: int) -> None:
    assert startup_length(struct.pack("!I", length)) == length


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("!I", 7),
        struct.pack("!I", 0),
        struct.pack("!I", 10005),
        b"\xff\xff\xff\xff",
        b"GET ",
        b"\x16\x03\x01\x02",
        b"",
        b"\0\0\0",
    ],
)
def test_lengths_no_first_packet_has(header: bytes) -> None:
    with pytest.raises(PgError, match="invalid length of startup packet"):
        startup_length(header)


def test_a_packet_of_another_length_than_it_says_is_refused() -> None:
    assert refused(write.startup_message(codes.PROTOCOL_3_0, [USER])[:-1]) == (
        "08P01",
        "incomplete startup packet",
    )


@given(
    version=st.sampled_from([196608, 196610, 196611, 80877102, 80877103, 80877104, 131072]),
    tail=st.one_of(
        st.binary(max_size=400),
        st.lists(
            st.sampled_from([b"\0", b"user", b"replication", b"options", b"_pq_.x", b"\xff", b"1"])
        ).map(b"".join),
    ),
)
def test_any_packet_is_parsed_or_refused_with_a_fatal(version: int, tail: bytes) -> None:
    severity = "FATAL"
    try:
        parsed = parse_startup(packet(struct.pack("!I", version) + tail))
        if isinstance(parsed, StartupMessage):
            negotiate(parsed)
            split_options(parsed.options)
    except PgError as error:
        severity = error.severity
    assert severity == "FATAL"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", []),
        ("   ", []),
        (" a  b\tc\n", ["a", "b", "c"]),
        (r"a\ b c", ["a b", "c"]),
        (r"a\\b \\", ["a\\b", "\\"]),
        (r"\a\n", ["an"]),
        ("a\\", ["a"]),
        ("\\", [""]),
        ("a\u00a0b", ["a\u00a0b"]),
    ],
)
def test_words_are_cut_at_spaces_that_are_not_escaped(value: str, words: list[str]) -> None:
    assert split_words(value) == words


@given(st.lists(st.text(min_size=1)))
def test_escaped_words_come_back(words: list[str]) -> None:
    value = " ".join("".join("\\" + character for character in word) for word in words)
    assert split_words(value) == words


@pytest.mark.parametrize(
    ("value", "settings"),
    [
        ("", []),
        ("-c work_mem=1MB", [("work_mem", "1MB")]),
        ("-cwork_mem=1MB", [("work_mem", "1MB")]),
        ("--work-mem=1MB", [("work_mem", "1MB")]),
        ("-c pgproxy.route=replica -c geqo=", [("pgproxy.route", "replica"), ("geqo", "")]),
        (r"-c search_path=a,\ b", [("search_path", "a, b")]),
        ("-c a=b=c", [("a", "b=c")]),
        ("-c =x", [("", "x")]),
        (
            "-es -fh -S 100 -- ",
            [
                ("datestyle", "euro"),
                ("log_statement_stats", "true"),
                ("enable_hashjoin", "false"),
                ("work_mem", "100"),
            ],
        ),
        ("-tpa -t pl -te", [(f"log_{x}_stats", "true") for x in ("parser", "planner", "executor")]),
        ("-O", [("allow_system_table_mods", "true")]),
    ],
)
def test_options_are_a_command_line_of_settings(
    value: str, settings: list[tuple[str, str]]
) -> None:
    assert split_options(value) == settings


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("-c work_mem=1MB foo", "invalid command-line argument for server process: foo"),
        ("-c work_mem", "-c work_mem requires a value"),
        ("--work-mem=1MB --foo", "--foo requires a value"),
        ("-z", "invalid command-line argument for server process: -z"),
        ("-c", "invalid command-line argument for server process: -c"),
        ("-fzz", "invalid command-line argument for server process: -fzz"),
        ("-tx", "invalid command-line argument for server process: -tx"),
        ("-- -c work_mem=1MB", "invalid command-line argument for server process: -c"),
        ("-", "invalid command-line argument for server process: -"),
        ("\\", "invalid command-line argument for server process: "),
        ("-p 5432", "invalid command-line argument for server process: -p"),
    ],
)
def test_other_options_are_refused(value: str, message: str) -> None:
    with pytest.raises(PgError) as caught:
        split_options(value)
    error = caught.value
    assert (error.severity, error.sqlstate, error.message) == ("FATAL", "42601", message)


@given(st.text(st.sampled_from("-ceftSOs= \\ab\n")))
def test_any_options_are_split_or_refused(value: str) -> None:
    sqlstate = "42601"
    try:
        split_options(value)
    except PgError as error:
        sqlstate = error.sqlstate
    assert sqlstate == "42601"
