"""The md5 password method, both sides. PURE.

A hash is "md5" and 32 lowercase hexadecimal digits, as in pg_authid and in a users file; it is
itself enough to log in, so it is as secret as the password. A build of Python that forbids MD5
(FIPS) makes these functions raise PgError 0A000.
"""

import hashlib
import hmac
from typing import Final

from pgproxy.errors import FEATURE_NOT_SUPPORTED, PgError

HASH_LENGTH: Final = 35
SALT_LENGTH: Final = 4


def is_hash(password: str) -> bool:
    """Whether `password` is an md5 hash and not a password that happens to begin with md5."""
    if len(password) != HASH_LENGTH or not password.startswith("md5"):
        return False
    return all(digit in "0123456789abcdef" for digit in password[3:])


def password_hash(password: bytes, user: bytes) -> str:
    """The hash PostgreSQL stores for this password: the user's name is its salt."""
    return "md5" + _hex(password + user)


def response(stored: str, salt: bytes) -> bytes:
    """What a client answers to AuthenticationMD5Password, without the final NUL.

    `stored` is the hash of the password, `salt` the four bytes of the request.
    """
    return b"md5" + _hex(stored[3:].encode("ascii") + salt).encode("ascii")


def verify(stored: str, salt: bytes, answer: bytes) -> bool:
    """Whether `answer` is the response to `salt` of one who knows the hash; in constant time."""
    return hmac.compare_digest(response(stored, salt), answer)


def _hex(data: bytes) -> str:
    try:
        return hashlib.md5(data, usedforsecurity=False).hexdigest()
    except ValueError as error:
        raise PgError(
            FEATURE_NOT_SUPPORTED,
            "md5 passwords are not possible: this system's cryptography library forbids MD5",
            severity="FATAL",
        ) from error
