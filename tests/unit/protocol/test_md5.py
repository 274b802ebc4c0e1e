"""The md5 method, against hashes that PostgreSQL made."""

import hashlib

import pytest

from pgproxy.errors import PgError
from pgproxy.protocol import md5


@pytest.mark.parametrize(
    ("user", "password", "stored"),
    [
        ("alice", "secret", "md54a0a68b43b6cd5cf266fa02f196e2371"),
        ("käthe", "pässwörd", "md560ff03ccbb736e9c647da1b378167055"),
    ],
)
def test_hash_is_the_one_postgresql_stores(user: str, password: str, stored: str) -> None:
    assert md5.password_hash(password.encode(), user.encode()) == stored


def test_response_hashes_the_hash_with_the_salt() -> None:
    stored = md5.password_hash(b"secret", b"alice")
    expected = hashlib.md5(stored[3:].encode() + b"\x01\x02\x03\x04").hexdigest()
    assert md5.response(stored, b"\x01\x02\x03\x04") == b"md5" + expected.encode()


def test_verify_takes_the_right_response_only() -> None:
    stored = md5.password_hash(b"secret", b"alice")
    answer = md5.response(stored, b"salt")
    assert md5.verify(stored, b"salt", answer)
    assert not md5.verify(stored, b"tlas", answer)
    assert not md5.verify(stored, b"salt", answer[:-1])
    assert not md5.verify(stored, b"salt", stored.encode())
    assert not md5.verify(stored, b"salt", b"")
    assert not md5.verify(stored, b"salt", b"\xff" * 35)


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        ("md5" + "0123456789abcdef" * 2, True),
        ("md5" + "0123456789ABCDEF" * 2, False),
        ("md5" + "0123456789abcdef" * 2 + "0", False),
        ("md5" + "0123456789abcdef" * 2 + "\n", False),
        ("MD5" + "0123456789abcdef" * 2, False),
        ("md5" + "g" * 32, False),
        ("md5", False),
        ("", False),
    ],
)
def test_a_hash_is_told_from_a_password(password: str, expected: bool) -> None:
    assert md5.is_hash(password) is expected


def test_a_system_without_md5_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise ValueError("disabled for FIPS")

    monkeypatch.setattr(hashlib, "md5", forbidden)
    with pytest.raises(PgError) as caught:
        md5.password_hash(b"secret", b"alice")
    assert (caught.value.sqlstate, caught.value.severity) == ("0A000", "FATAL")
