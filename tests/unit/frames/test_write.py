"""Each message against the bytes the manual's "Message Formats" prescribes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.errors import PgError
from pgproxy.frames import codes, read, write


def body(frame: bytes, kind: str) -> bytes:
    """The body of the single frame that `frame` must be."""
    assert frame[:1] == kind.encode()
    (length,) = struct.unpack_from("!I", frame, 1)
    assert length == len(frame) - 1
    return frame[5:]


@pytest.mark.parametrize(
    ("constant", "kind"),
    [
        (write.PARSE_COMPLETE, codes.B_PARSE_COMPLETE),
        (write.BIND_COMPLETE, codes.B_BIND_COMPLETE),
        (write.CLOSE_COMPLETE, codes.B_CLOSE_COMPLETE),
        (write.NO_DATA, codes.B_NO_DATA),
        (write.EMPTY_QUERY_RESPONSE, codes.B_EMPTY_QUERY_RESPONSE),
        (write.PORTAL_SUSPENDED, codes.B_PORTAL_SUSPENDED),
        (write.SYNC, codes.F_SYNC),
        (write.FLUSH, codes.F_FLUSH),
        (write.TERMINATE, codes.F_TERMINATE),
    ],
)
def test_a_message_without_body_is_its_type_and_the_length_four(constant: bytes, kind: int) -> None:
    assert constant == write.frame(kind, b"")


def test_authentication_ok_is_code_zero() -> None:
    assert body(write.AUTHENTICATION_OK, "R") == struct.pack("!I", 0)


@pytest.mark.parametrize(
    ("status", "constant"),
    [("I", write.READY_IDLE), ("T", write.READY_IN_TRANSACTION), ("E", write.READY_FAILED)],
)
def test_ready_for_query_carries_its_status(status: str, constant: bytes) -> None:
    assert body(constant, "Z") == status.encode()
    assert write.ready_for_query(ord(status)) == constant


def test_command_complete_ends_its_tag() -> None:
    assert body(write.command_complete(b"SELECT 1"), "C") == b"SELECT 1\x00"


def test_error_response_has_postgresqls_fields_in_its_order() -> None:
    error = PgError("53300", "too many clients", severity="FATAL", detail="All busy.", hint="Wait.")
    assert body(write.error_response(error), "E") == (
        b"SFATAL\x00VFATAL\x00C53300\x00Mtoo many clients\x00DAll busy.\x00HWait.\x00Rpgproxy\x00\x00"
    )


def test_error_response_leaves_empty_fields_out() -> None:
    assert body(write.error_response(PgError("XX000", "internal error")), "E") == (
        b"SERROR\x00VERROR\x00CXX000\x00Minternal error\x00Rpgproxy\x00\x00"
    )


def test_notice_response_differs_in_its_type_alone() -> None:
    notice = PgError("01000", "going away", severity="WARNING")
    assert body(write.notice_response(notice), "N") == body(write.error_response(notice), "E")


@given(message=st.text(), detail=st.text(), hint=st.text())
def test_no_text_breaks_an_error_response(message: str, detail: str, hint: str) -> None:
    error = PgError("08P01", message, detail=detail, hint=hint)
    fields = read.error_fields(body(write.error_response(error), "E"))

    def shown(text: str) -> str:
        return text.replace("\x00", "").encode("utf-8", "replace").decode()

    assert fields["M"] == shown(message)
    assert fields.get("D", "") == shown(detail)
    assert fields.get("H", "") == shown(hint)


def test_bytes_that_were_no_text_are_shown_as_question_marks() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert b"Mcaf?\x00" in write.error_response(PgError("28P01", name))


def test_parameter_status_is_two_strings() -> None:
    assert body(write.parameter_status(b"TimeZone", b"UTC"), "S") == b"TimeZone\x00UTC\x00"


def test_backend_key_data_takes_keys_of_both_protocols() -> None:
    assert body(write.backend_key_data(7, b"abcd"), "K") == b"\x00\x00\x00\x07abcd"
    assert body(write.backend_key_data(-2, b"k" * 256), "K") == b"\xff\xff\xff\xfe" + b"k" * 256


def test_negotiate_protocol_version_names_the_version_and_the_unknown_options() -> None:
    frame = write.negotiate_protocol_version(codes.PROTOCOL_3_2, [b"_pq_.a", b"_pq_.b"])
    assert body(frame, "v") == struct.pack("!II", 196610, 2) + b"_pq_.a\x00_pq_.b\x00"


def test_row_description_describes_text_columns() -> None:
    column = struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0)
    assert body(write.row_description([b"a", b"bb"]), "T") == (
        b"\x00\x02a\x00" + column + b"bb\x00" + column
    )


def test_data_row_tells_null_from_empty() -> None:
    assert body(write.data_row([b"x", None, b""]), "D") == (
        b"\x00\x03\x00\x00\x00\x01x\xff\xff\xff\xff\x00\x00\x00\x00"
    )


@pytest.mark.parametrize(
    ("frame", "code", "data"),
    [
        (write.authentication_cleartext(), 3, b""),
        (write.authentication_md5(b"salt"), 5, b"salt"),
        (write.authentication_sasl([b"A", b"B"]), 10, b"A\x00B\x00\x00"),
        (write.authentication_sasl_continue(b"r=1"), 11, b"r=1"),
        (write.authentication_sasl_final(b"v=1"), 12, b"v=1"),
    ],
)
def test_authentication_requests(frame: bytes, code: int, data: bytes) -> None:
    assert body(frame, "R") == struct.pack("!I", code) + data


def test_startup_message_is_untyped_and_ends_with_a_nul() -> None:
    packet = write.startup_message(codes.PROTOCOL_3_0, [(b"user", b"bob"), (b"database", b"db")])
    content = b"user\x00bob\x00database\x00db\x00\x00"
    assert packet == struct.pack("!II", 8 + len(content), 196608) + content


def test_cancel_request_has_length_sixteen_for_short_keys() -> None:
    assert write.cancel_request(5, b"abcd") == struct.pack("!III", 16, 80877102, 5) + b"abcd"
    assert write.cancel_request(5, b"k" * 256)[:4] == struct.pack("!I", 268)


def test_password_message_adds_nothing_to_its_payload() -> None:
    assert body(write.password_message(b"secret\x00"), "p") == b"secret\x00"


def test_sasl_initial_response_counts_its_data() -> None:
    frame = write.sasl_initial_response(b"SCRAM-SHA-256", b"n,,n=,r=x")
    assert body(frame, "p") == b"SCRAM-SHA-256\x00\x00\x00\x00\x09n,,n=,r=x"


def test_messages_about_statements() -> None:
    assert body(write.query(b"SELECT 1"), "Q") == b"SELECT 1\x00"
    assert body(write.parse(b"s1", b"SELECT $1", b"\x00\x01\x00\x00\x00\x17"), "P") == (
        b"s1\x00SELECT $1\x00\x00\x01\x00\x00\x00\x17"
    )
    assert body(write.close_statement(b"s1"), "C") == b"Ss1\x00"
    assert body(write.describe_statement(b"s1"), "D") == b"Ss1\x00"
