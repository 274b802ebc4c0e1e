"""Bodies taken apart, and what is said of those that are not what they claim."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgproxy.errors import PgError
from pgproxy.frames import codes, read, write

READERS: list[Callable[[bytes], Any]] = [
    read.authentication,
    read.backend_key_data,
    read.bind_names,
    read.close_target,
    read.command_tag,
    read.describe_target,
    read.error_fields,
    read.execute_target,
    read.negotiate_protocol_version,
    read.parameter_status,
    read.parse_message,
    read.query_text,
    read.ready_status,
    read.sasl_initial_response,
    read.sasl_mechanisms,
]

names = st.binary(max_size=20).map(lambda raw: raw.replace(b"\x00", b"."))


def refused(reader: Callable[[bytes], Any], body: bytes) -> str:
    with pytest.raises(PgError) as caught:
        reader(body)
    assert caught.value.sqlstate == "08P01"
    return caught.value.message


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
@given(body=st.one_of(st.binary(), st.lists(st.sampled_from([0, 0, 1, 83, 255])).map(bytes)))
@example(body=b"")
@example(body=b"\x00")
@example(body=b"\x00" * 16)
@example(body=b"\xff" * 16)
def test_any_bytes_are_read_or_refused_as_a_protocol_violation(
    reader: Callable[[bytes], Any], body: bytes
) -> None:
    sqlstate = "08P01"
    try:
        reader(body)
    except PgError as error:
        sqlstate = error.sqlstate
    assert sqlstate == "08P01"


@pytest.mark.parametrize(
    ("reader", "whole"),
    [
        (read.query_text, write.query(b"SELECT 1")),
        (read.parse_message, write.parse(b"s", b"SELECT $1", b"\x00\x01\x00\x00\x00\x17")),
        (read.execute_target, write.frame(codes.F_EXECUTE, b"p\x00\x00\x00\x00\x00")),
        (read.describe_target, write.describe_statement(b"s")),
        (read.close_target, write.close_statement(b"s")),
        (read.sasl_initial_response, write.sasl_initial_response(b"M", b"data")),
        (read.error_fields, write.error_response(PgError("XX000", "m"))),
        (read.parameter_status, write.parameter_status(b"a", b"b")),
        (read.backend_key_data, write.backend_key_data(1, b"abcd")),
        (read.negotiate_protocol_version, write.negotiate_protocol_version(196610, [b"_pq_.x"])),
        (read.command_tag, write.command_complete(b"SELECT 1")),
        (read.ready_status, write.READY_IDLE),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_cut_of_a_whole_body_is_refused(reader: Callable[[bytes], Any], whole: bytes) -> None:
    body = whole[5:]
    reader(body)
    for end in range(len(body)):
        assert refused(reader, body[:end]) in {
            "insufficient data left in message",
            "invalid message format",
            "invalid string in message",
            "no data left in message",
        }


@pytest.mark.parametrize(
    "reader",
    [
        read.command_tag,
        read.describe_target,
        read.error_fields,
        read.parameter_status,
        read.query_text,
        read.ready_status,
    ],
)
def test_bytes_after_the_end_are_refused(reader: Callable[[bytes], Any]) -> None:
    whole = {
        read.command_tag: b"BEGIN\x00",
        read.describe_target: b"Ss\x00",
        read.error_fields: b"SERROR\x00\x00",
        read.parameter_status: b"a\x00b\x00",
        read.query_text: b"SELECT 1\x00",
        read.ready_status: b"I",
    }[reader]
    reader(whole)
    assert refused(reader, whole + b"\x00") == "invalid message format"


@given(name=names, sql=names, oids=st.lists(st.integers(0, 2**32 - 1), max_size=5))
def test_parse_gives_back_what_was_written(name: bytes, sql: bytes, oids: list[int]) -> None:
    types = struct.pack(f"!H{len(oids)}I", len(oids), *oids)
    assert read.parse_message(write.parse(name, sql, types)[5:]) == (name, sql, types)


def test_parse_counts_its_parameter_types() -> None:
    assert refused(read.parse_message, b"\x00\x00\x00\x02\x00\x00\x00\x17") == (
        "insufficient data left in message"
    )
    assert refused(read.parse_message, b"\x00\x00\x00\x00\x00") == "invalid message format"


@given(portal=names, statement=names, rest=st.binary())
def test_bind_tells_where_its_values_begin(portal: bytes, statement: bytes, rest: bytes) -> None:
    body = portal + b"\x00" + statement + b"\x00" + rest
    assert read.bind_names(body) == (portal, statement, len(body) - len(rest))


def test_execute_reads_its_limit() -> None:
    assert read.execute_target(b"c1\x00\x00\x00\x00\x64") == (b"c1", 100)
    assert read.execute_target(b"\x00\xff\xff\xff\xff") == (b"", -1)
    assert refused(read.execute_target, b"\x00\x00\x00\x00\x00\x00") == "invalid message format"


def test_describe_and_close_name_a_statement_or_a_portal() -> None:
    assert read.describe_target(b"Ss1\x00") == (codes.TARGET_STATEMENT, b"s1")
    assert read.close_target(b"P\x00") == (codes.TARGET_PORTAL, b"")
    assert refused(read.describe_target, b"X\x00") == "invalid DESCRIBE message subtype 88"
    assert refused(read.close_target, b"X\x00") == "invalid CLOSE message subtype 88"


def test_sasl_initial_response_tells_no_data_from_empty_data() -> None:
    assert read.sasl_initial_response(b"M\x00\xff\xff\xff\xff") == (b"M", None)
    assert read.sasl_initial_response(b"M\x00\x00\x00\x00\x00") == (b"M", b"")
    assert read.sasl_initial_response(b"M\x00\x00\x00\x00\x02xy") == (b"M", b"xy")


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (b"\xff\xff\xff\xffx", "invalid message format"),
        (b"\x00\x00\x00\x01xy", "invalid message format"),
        (b"\x00\x00\x00\x03xy", "insufficient data left in message"),
        (b"\xff\xff\xff\xfexy", "insufficient data left in message"),
    ],
)
def test_sasl_initial_response_with_a_lying_length_is_refused(tail: bytes, message: str) -> None:
    assert refused(read.sasl_initial_response, b"M\x00" + tail) == message


def test_authentication_is_a_code_and_its_data() -> None:
    assert read.authentication(write.authentication_md5(b"salt")[5:]) == (codes.AUTH_MD5, b"salt")
    assert read.authentication(write.AUTHENTICATION_OK[5:]) == (codes.AUTH_OK, b"")


def test_sasl_mechanisms_end_with_an_empty_name() -> None:
    assert read.sasl_mechanisms(b"A\x00B\x00\x00") == [b"A", b"B"]
    assert read.sasl_mechanisms(b"\x00") == []
    assert refused(read.sasl_mechanisms, b"A\x00\x00B\x00") == "invalid message format"


def test_error_fields_come_by_letter() -> None:
    body = b"SERROR\x00VERROR\x00C42P01\x00Mkein \xc3\xbcber\xff\x00\x00"
    assert read.error_fields(body) == {
        "S": "ERROR",
        "V": "ERROR",
        "C": "42P01",
        "M": "kein über\ufffd",
    }


@pytest.mark.parametrize("length", [4, 32, 256])
def test_backend_key_data_of_both_protocols(length: int) -> None:
    secret = b"k" * length
    assert read.backend_key_data(write.backend_key_data(-7, secret)[5:]) == (-7, secret)


@pytest.mark.parametrize("length", [0, 3, 257])
def test_backend_key_data_of_another_length_is_refused(length: int) -> None:
    refused(read.backend_key_data, bytes(4) + b"k" * length)


def test_negotiate_protocol_version_lists_the_options() -> None:
    frame = write.negotiate_protocol_version(196610, [b"_pq_.a", b"_pq_.b"])
    assert read.negotiate_protocol_version(frame[5:]) == (196610, [b"_pq_.a", b"_pq_.b"])


def test_a_count_that_lies_ends_with_the_body() -> None:
    body = struct.pack("!II", 196610, 0x7FFFFFFF) + b"a\x00"
    assert refused(read.negotiate_protocol_version, body) == "invalid string in message"


def test_ready_status_is_one_of_three() -> None:
    assert [read.ready_status(s.encode()) for s in "ITE"] == [
        codes.STATUS_IDLE,
        codes.STATUS_IN_TRANSACTION,
        codes.STATUS_FAILED,
    ]
    assert refused(read.ready_status, b"x") == "invalid message format"


@given(text=names)
def test_texts_are_given_without_their_nul(text: bytes) -> None:
    assert read.query_text(write.query(text)[5:]) == text
    assert read.command_tag(write.command_complete(text)[5:]) == text
    assert read.parameter_status(write.parameter_status(text, text)[5:]) == (text, text)


@given(
    state=st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=5, max_size=5),
    message=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80),
    severity=st.sampled_from(["ERROR", "FATAL", "PANIC"]),
)
@example(state="25006", message="C25006", severity="ERROR")
def test_the_sqlstate_of_an_error_whatever_its_length(
    state: str, message: str, severity: str
) -> None:
    frame = write.error_response(PgError(state, message, severity=severity))
    assert read.sqlstate(frame) == state.encode()
    assert read.is_fatal(frame) == (severity != "ERROR")


def test_an_error_without_a_sqlstate() -> None:
    assert read.sqlstate(write.frame(codes.B_ERROR_RESPONSE, b"SERROR\0Mno\0\0")) == b""
