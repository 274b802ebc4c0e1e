"""The numbers of the protocol against the letters the manual prints."""

from pgproxy.frames import codes

FRONTEND = {
    "BIND": "B",
    "CLOSE": "C",
    "COPY_DATA": "d",
    "COPY_DONE": "c",
    "COPY_FAIL": "f",
    "DESCRIBE": "D",
    "EXECUTE": "E",
    "FLUSH": "H",
    "FUNCTION_CALL": "F",
    "PARSE": "P",
    "PASSWORD": "p",
    "QUERY": "Q",
    "SYNC": "S",
    "TERMINATE": "X",
}
BACKEND = {
    "AUTHENTICATION": "R",
    "BACKEND_KEY_DATA": "K",
    "BIND_COMPLETE": "2",
    "CLOSE_COMPLETE": "3",
    "COMMAND_COMPLETE": "C",
    "COPY_BOTH_RESPONSE": "W",
    "COPY_DATA": "d",
    "COPY_DONE": "c",
    "COPY_IN_RESPONSE": "G",
    "COPY_OUT_RESPONSE": "H",
    "DATA_ROW": "D",
    "EMPTY_QUERY_RESPONSE": "I",
    "ERROR_RESPONSE": "E",
    "FUNCTION_CALL_RESPONSE": "V",
    "NEGOTIATE_PROTOCOL_VERSION": "v",
    "NO_DATA": "n",
    "NOTICE_RESPONSE": "N",
    "NOTIFICATION_RESPONSE": "A",
    "PARAMETER_DESCRIPTION": "t",
    "PARAMETER_STATUS": "S",
    "PARSE_COMPLETE": "1",
    "PORTAL_SUSPENDED": "s",
    "READY_FOR_QUERY": "Z",
    "ROW_DESCRIPTION": "T",
}


def named(prefix: str) -> dict[str, str]:
    return {
        name.removeprefix(prefix): chr(value)
        for name, value in vars(codes).items()
        if name.startswith(prefix)
    }


def test_frontend_type_bytes_are_the_manuals() -> None:
    assert named("F_") == FRONTEND


def test_backend_type_bytes_are_the_manuals() -> None:
    assert named("B_") == BACKEND


def test_requests_are_the_reserved_major_1234() -> None:
    assert codes.CANCEL_REQUEST == (1234 << 16) + 5678
    assert codes.SSL_REQUEST == (1234 << 16) + 5679
    assert codes.GSSENC_REQUEST == (1234 << 16) + 5680


def test_versions_are_major_and_minor() -> None:
    assert codes.PROTOCOL_3_0 == 3 << 16
    assert codes.PROTOCOL_3_2 == (3 << 16) + 2


def test_status_bytes_and_targets_are_the_manuals() -> None:
    assert tuple(b"ITE") == (codes.STATUS_IDLE, codes.STATUS_IN_TRANSACTION, codes.STATUS_FAILED)
    assert tuple(b"SP") == (codes.TARGET_STATEMENT, codes.TARGET_PORTAL)
