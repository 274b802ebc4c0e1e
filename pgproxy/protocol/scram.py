"""SCRAM-SHA-256 (RFC 5802, RFC 7677), both roles, as PostgreSQL speaks it. PURE.

`ScramServer` judges a client, `ScramClient` logs in to a server; each is a fixed sequence of calls
that turn the other side's message into one's own. No channel binding: the -PLUS mechanism is not
offered, so a client may say 'y' or 'n' but not 'p'.

What costs time is `derive` (PBKDF2, milliseconds; it lets go of the GIL): a `Keyring` remembers its
results, and its holder may fill it in a thread. Everything that is wrong with a message is PgError
FATAL in PostgreSQL's words; a wrong password is no exception here but a None.
"""

import binascii
import hashlib
import hmac
import os
from typing import Final, final

from pgproxy.errors import FEATURE_NOT_SUPPORTED, INVALID_PASSWORD, PROTOCOL_VIOLATION, PgError
from pgproxy.protocol.saslprep import saslprep

MECHANISM: Final = b"SCRAM-SHA-256"
MECHANISM_PLUS: Final = b"SCRAM-SHA-256-PLUS"
REJECTED_BY_SERVER: Final = "08004"

# PostgreSQL's SCRAM_SHA_256_DEFAULT_ITERATIONS, SCRAM_DEFAULT_SALT_LEN, SCRAM_RAW_NONCE_LEN.
ITERATIONS: Final = 4096
SALT_LENGTH: Final = 16
NONCE_LENGTH: Final = 18
KEY_LENGTH: Final = 32
# A server could keep us busy for hours with the largest number it may send; this is seconds.
MAX_ITERATIONS: Final = 10_000_000


@final
class ScramSecret:
    """What a server stores of a password: enough to check it, not enough to log in with it."""

    def __init__(self, iterations: int, salt: bytes, stored_key: bytes, server_key: bytes) -> None:
        self.iterations: int = iterations
        self.salt: bytes = salt
        self.stored_key: bytes = stored_key
        self.server_key: bytes = server_key

    def text(self) -> str:
        """As in pg_authid: SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey."""
        salt, stored, server = _b64(self.salt), _b64(self.stored_key), _b64(self.server_key)
        keys = stored + b":" + server
        return f"SCRAM-SHA-256${self.iterations}:{salt.decode()}${keys.decode()}"


@final
class ScramKeys:
    """What a client needs to log in to any server that holds the secret of the same salt."""

    def __init__(self, iterations: int, salt: bytes, client_key: bytes, server_key: bytes) -> None:
        self.iterations: int = iterations
        self.salt: bytes = salt
        self.client_key: bytes = client_key
        self.server_key: bytes = server_key

    def secret(self) -> ScramSecret:
        """The secret these keys open."""
        stored_key = hashlib.sha256(self.client_key).digest()
        return ScramSecret(self.iterations, self.salt, stored_key, self.server_key)


def parse_secret(text: str) -> ScramSecret | None:
    """The secret that `text` is, or None where it is none (then it is a plain password)."""
    parts = text.split("$")
    if len(parts) != 3 or parts[0] != "SCRAM-SHA-256":
        return None
    iterations, colon, salt = parts[1].partition(":")
    stored, colon2, server = parts[2].partition(":")
    if not (colon and colon2 and iterations.isascii() and iterations.isdigit()):
        return None
    raw_salt = _unb64(salt.encode("utf-8", "replace"))
    stored_key = _unb64(stored.encode("utf-8", "replace"))
    server_key = _unb64(server.encode("utf-8", "replace"))
    if not raw_salt or stored_key is None or server_key is None or len(iterations) > 10:
        return None
    if len(stored_key) != KEY_LENGTH or len(server_key) != KEY_LENGTH or int(iterations) < 1:
        return None
    return ScramSecret(int(iterations), raw_salt, stored_key, server_key)


def derive(password: bytes, salt: bytes, iterations: int) -> ScramKeys:
    """The keys of a password; slow on purpose. May be called in any thread."""
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return ScramKeys(iterations, salt, client_key, server_key)


@final
class Keyring:
    """The derived keys of one process, and the salts of users whose secret is not stored.

    One for the whole process. A salt depends on the user's name and a nonce that nobody sees, so it
    is the same at each attempt whether the user exists or not: the answer to a name tells nothing
    (PostgreSQL's mock authentication). Safe in threads: each change is a single dictionary
    operation, and the worst a race costs is one derivation too many.
    """

    def __init__(
        self, nonce: bytes | None = None, iterations: int = ITERATIONS, limit: int = 10_000
    ) -> None:
        self.iterations: int = iterations
        self._nonce: bytes = os.urandom(32) if nonce is None else nonce
        self._limit: int = limit
        self._keys: dict[tuple[bytes, bytes, int], ScramKeys] = {}

    def salt(self, user: bytes) -> bytes:
        """The salt this process uses for a user with a plain password, or for none at all."""
        return hashlib.sha256(user + self._nonce).digest()[:SALT_LENGTH]

    def mock(self, user: bytes) -> ScramSecret:
        """The secret of a user that does not exist: nothing opens it."""
        return ScramSecret(self.iterations, self.salt(user), bytes(KEY_LENGTH), bytes(KEY_LENGTH))

    def find(self, password: bytes, salt: bytes, iterations: int) -> ScramKeys | None:
        """The keys, if they are remembered."""
        return self._keys.get((password, salt, iterations))

    def remember(self, password: bytes, keys: ScramKeys) -> None:
        """Keep keys that proved right; a full ring starts over."""
        if len(self._keys) >= self._limit:
            self._keys = {}
        self._keys[password, keys.salt, keys.iterations] = keys

    def keys(self, password: bytes, salt: bytes, iterations: int) -> ScramKeys:
        """The keys, derived now where they are not remembered yet (slow)."""
        keys = self.find(password, salt, iterations)
        if keys is None:
            keys = derive(password, salt, iterations)
            self.remember(password, keys)
        return keys

    def prepare(self, user: bytes, password: bytes) -> ScramKeys:
        """The keys a user with a plain password is judged by (slow the first time).

        Called for every plain password beforehand, in a thread, no log-in ever waits for it.
        """
        return self.keys(password, self.salt(user), self.iterations)


@final
class ScramServer:
    """The role of the server, towards one client: `first`, then `final`.

    `secret` is the user's; with `doomed` it is a mock, and the exchange fails at its end as with a
    wrong password. `nonce` (printable ASCII, no comma) is for tests.
    """

    def __init__(
        self, secret: ScramSecret, *, doomed: bool = False, nonce: bytes | None = None
    ) -> None:
        self.secret: ScramSecret = secret
        self._doomed: bool = doomed
        self._nonce: bytes = make_nonce() if nonce is None else nonce
        self._gs2_header: bytes = b""
        self._client_first: bytes = b""
        self._server_first: bytes = b""
        # After success: with these the proxy can itself log in wherever the same secret is stored.
        self.keys: ScramKeys | None = None

    @property
    def has_begun(self) -> bool:
        """Whether `first` has been through."""
        return bool(self._server_first)

    def first(self, message: bytes) -> bytes:
        """client-first-message to server-first-message."""
        _check(message)
        flag = message[:1]
        if flag == b"p":
            raise _malformed(
                "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message "
                "includes channel binding data."
            )
        if flag not in (b"n", b"y"):
            raise _malformed(f'Unexpected channel-binding flag "{_shown(message, 0)}".')
        if message[1:2] != b",":
            raise _malformed(f'Comma expected, but found character "{_shown(message, 1)}".')
        if message[2:3] == b"a":
            raise _unsupported("client uses authorization identity, but it is not supported")
        if message[2:3] != b",":
            raise _malformed(
                f'Unexpected attribute "{_shown(message, 2)}" in client-first-message.'
            )
        if message[3:4] == b"m":
            raise _unsupported("client requires an unsupported SCRAM extension")
        # The user's name here is ignored: the one in the startup packet counts.
        _, offset = _attribute(message, 3, "n")
        client_nonce, offset = _attribute(message, offset, "r")
        if not _is_printable(client_nonce):
            raise _violation("non-printable characters in SCRAM nonce")
        while offset < len(message):
            _, _, offset = _any_attribute(message, offset)
        self._gs2_header = message[:3]
        self._client_first = message[3:]
        self._nonce = client_nonce + self._nonce
        self._server_first = b"r=%b,s=%b,i=%d" % (
            self._nonce,
            _b64(self.secret.salt),
            self.secret.iterations,
        )
        return self._server_first

    def final(self, message: bytes) -> bytes | None:
        """client-final-message to server-final-message; None: the password is wrong."""
        _check(message)
        binding, offset = _attribute(message, 0, "c")
        if binding != _b64(self._gs2_header):
            raise _violation("unexpected SCRAM channel-binding attribute in client-final-message")
        nonce, offset = _attribute(message, offset, "r")
        while True:
            proof_at = offset - 1
            letter, value, offset = _any_attribute(message, offset)
            if letter == "p":
                break
        proof = _unb64(value)
        if proof is None or len(proof) != KEY_LENGTH:
            raise _malformed("Malformed proof in client-final-message.")
        if offset < len(message):
            raise _malformed("Garbage found at the end of client-final-message.")
        if nonce != self._nonce:
            raise _violation("invalid SCRAM response", "Nonce does not match.")
        secret = self.secret
        exchange = b",".join((self._client_first, self._server_first, message[:proof_at]))
        signature = hmac.digest(secret.stored_key, exchange, "sha256")
        client_key = _xor(proof, signature)
        # In this order: the mock exchange takes the same steps up to here.
        is_right = hmac.compare_digest(hashlib.sha256(client_key).digest(), secret.stored_key)
        if not is_right or self._doomed:
            return None
        self.keys = ScramKeys(secret.iterations, secret.salt, client_key, secret.server_key)
        return b"v=" + _b64(hmac.digest(secret.server_key, exchange, "sha256"))


@final
class ScramClient:
    """The role of the client, towards one server: `first`, `challenge`, `final`, `verify`.

    Between `challenge` and `final` the caller finds the keys for `salt` and `iterations`.
    """

    def __init__(self, nonce: bytes | None = None) -> None:
        self._nonce: bytes = make_nonce() if nonce is None else nonce
        self._client_first: bytes = b""
        self._server_first: bytes = b""
        self._server_signature: bytes = b""
        self.salt: bytes = b""
        self.iterations: int = 0

    def first(self, user: bytes = b"") -> bytes:
        """client-first-message. PostgreSQL's clients send no name here; `user` must need no
        escaping."""
        self._client_first = b"n=" + user + b",r=" + self._nonce
        return b"n,," + self._client_first

    def challenge(self, message: bytes) -> None:
        """Take the server-first-message: sets `salt` and `iterations`."""
        _check(message)
        nonce, offset = _attribute(message, 0, "r")
        if not nonce.startswith(self._nonce) or not _is_printable(nonce):
            raise _violation("invalid SCRAM response", "Nonce does not match.")
        salt, offset = _attribute(message, offset, "s")
        raw_salt = _unb64(salt)
        if not raw_salt:
            raise _malformed("Invalid salt.")
        iterations, offset = _attribute(message, offset, "i")
        if not iterations.isdigit() or len(iterations) > 10 or int(iterations) < 1:
            raise _malformed("Invalid iteration count.")
        if int(iterations) > MAX_ITERATIONS:
            raise _unsupported(f"the server asks for {int(iterations)} SCRAM iterations")
        self._server_first = message
        self.salt = raw_salt
        self.iterations = int(iterations)
        self._nonce = nonce

    def final(self, keys: ScramKeys) -> bytes:
        """client-final-message, with the keys that belong to `salt` and `iterations`."""
        without_proof = b"c=biws,r=" + self._nonce
        exchange = b",".join((self._client_first, self._server_first, without_proof))
        stored_key = hashlib.sha256(keys.client_key).digest()
        proof = _xor(keys.client_key, hmac.digest(stored_key, exchange, "sha256"))
        self._server_signature = hmac.digest(keys.server_key, exchange, "sha256")
        return without_proof + b",p=" + _b64(proof)

    def verify(self, message: bytes) -> None:
        """Take the server-final-message.

        Raises PgError 08004 when the server does not know the secret itself, 28P01 when it says
        that we do not.
        """
        _check(message)
        if message[:1] == b"e":
            reason, _ = _attribute(message, 0, "e")
            text = reason.decode("ascii", "replace")
            raise PgError(
                INVALID_PASSWORD,
                f"error received from server in SCRAM exchange: {text}",
                severity="FATAL",
            )
        signature, _ = _attribute(message, 0, "v")
        raw_signature = _unb64(signature)
        if raw_signature is None or len(raw_signature) != KEY_LENGTH:
            raise _malformed("Invalid server signature.")
        if not hmac.compare_digest(raw_signature, self._server_signature):
            raise PgError(
                REJECTED_BY_SERVER,
                "incorrect server signature",
                severity="FATAL",
                detail="The server does not know the password itself: it is not the one meant.",
            )


def make_nonce() -> bytes:
    """A nonce as PostgreSQL makes them: random bytes in base64."""
    return _b64(os.urandom(NONCE_LENGTH))


def _attribute(message: bytes, offset: int, name: str) -> tuple[bytes, int]:
    """The value of the attribute that must come at `offset`, and the offset of the next one."""
    if message[offset : offset + 1] != name.encode("ascii"):
        raise _malformed(f'Expected attribute "{name}" but found "{_shown(message, offset)}".')
    return _value(message, offset, name)


def _any_attribute(message: bytes, offset: int) -> tuple[str, bytes, int]:
    """The letter and value of whatever attribute comes at `offset`, and the next one's offset."""
    if offset >= len(message):
        raise _malformed("Attribute expected, but found end of string.")
    letter = chr(message[offset])
    if not (letter.isascii() and letter.isalpha()):
        raise _malformed(
            f'Attribute expected, but found invalid character "{_shown(message, offset)}".'
        )
    value, after = _value(message, offset, letter)
    return letter, value, after


def _value(message: bytes, offset: int, name: str) -> tuple[bytes, int]:
    if message[offset + 1 : offset + 2] != b"=":
        raise _malformed(f'Expected character "=" for attribute "{name}".')
    end = message.find(b",", offset)
    if end < 0:
        return message[offset + 2 :], len(message)
    return message[offset + 2 : end], end + 1


def _check(message: bytes) -> None:
    if not message:
        raise _malformed("The message is empty.")
    if b"\x00" in message:
        raise _malformed("Message length does not match input length.")


def _is_printable(value: bytes) -> bool:
    # RFC 5802: printable = %x21-2B / %x2D-7E. The comma never gets here.
    return all(0x21 <= byte <= 0x7E for byte in value)


def _shown(message: bytes, offset: int) -> str:
    """The byte at `offset` for an error's text; past the end it is C's terminator."""
    byte = message[offset] if offset < len(message) else 0
    return f"'{chr(byte)}'" if 0x21 <= byte <= 0x7E else f"0x{byte:02x}"


def _b64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)


def _unb64(data: bytes) -> bytes | None:
    try:
        return binascii.a2b_base64(data, strict_mode=True)
    except ValueError:
        return None


def _xor(left: bytes, right: bytes) -> bytes:
    mixed = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return mixed.to_bytes(KEY_LENGTH, "big")


def _violation(message: str, detail: str = "") -> PgError:
    return PgError(PROTOCOL_VIOLATION, message, severity="FATAL", detail=detail)


def _malformed(detail: str) -> PgError:
    return _violation("malformed SCRAM message", detail)


def _unsupported(message: str) -> PgError:
    return PgError(FEATURE_NOT_SUPPORTED, message, severity="FATAL")
