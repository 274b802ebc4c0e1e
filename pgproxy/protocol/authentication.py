"""Log-in exchanges: a client's with us, and ours with a server. PURE.

Both are fed the bodies of frames and return the bytes to send next; the shell moves them. A step
that `is_slow` announces may take milliseconds of PBKDF2, which the shell had better spend in a
thread. `ClientAuthentication` refuses with PgError FATAL 28P01 in PostgreSQL's words, and takes the
same messages, steps and derivations for a wrong password as for a user that does not exist.
"""

import hmac
import os
from typing import Final, final

from pgproxy.errors import FEATURE_NOT_SUPPORTED, INVALID_PASSWORD, PROTOCOL_VIOLATION, PgError
from pgproxy.frames import codes, read, write
from pgproxy.protocol import md5, scram
from pgproxy.protocol.scram import Keyring, ScramClient, ScramKeys, ScramServer
from pgproxy.protocol.userlist import PasswordKind, UserEntry

TRUST: Final = "trust"
PASSWORD: Final = "password"  # noqa: S105
MD5: Final = "md5"
SCRAM_SHA_256: Final = "scram-sha-256"

# Largest length words of a client's answers: PG_MAX_AUTH_TOKEN_LENGTH, PG_MAX_SASL_MESSAGE_LENGTH.
MAX_PASSWORD_LENGTH: Final = 65535
MAX_SASL_LENGTH: Final = 1024
# Where users are named.
_PLACES: Final = "auth.users_file, users_env or users_dirs"


@final
class Credentials:
    """What the proxy knows of a user to log in to servers with; all empty: nothing.

    `keys` are ready-made SCRAM keys, good wherever the server stores the same secret.
    """

    def __init__(
        self, password: str = "", md5_hash: str = "", keys: ScramKeys | None = None
    ) -> None:
        self.password: str = password
        self.md5_hash: str = md5_hash
        self.keys: ScramKeys | None = keys

    def __repr__(self) -> str:
        known = []
        if self.password:
            known.append("password")
        if self.md5_hash:
            known.append("md5_hash")
        if self.keys is not None:
            known.append("keys")
        return f"Credentials({', '.join(known)})"


def credentials_of(entry: UserEntry | None) -> Credentials:
    """What an entry alone is good for. A SCRAM secret opens nothing until its user has logged in:
    see ClientAuthentication.credentials."""
    if entry is None or entry.kind == PasswordKind.SCRAM:
        return Credentials()
    if entry.kind == PasswordKind.MD5:
        return Credentials(md5_hash=entry.password)
    return Credentials(password=entry.password)


@final
class ClientAuthentication:
    """One client's log-in: `request()` once, then `receive()` per answer until `done`.

    `entry` is the user's, None for an unknown one (whom `trust` lets in all the same).
    `unknown_kind` is the kind of entry an unknown user is treated as having, which should be what
    most users have. `salt` (md5, 4 bytes) and `nonce` (SCRAM) are for tests.

    As in PostgreSQL, method md5 uses SCRAM for users whose entry is a SCRAM secret, and method
    scram-sha-256 always fails for those whose entry is an md5 hash.
    """

    def __init__(
        self,
        method: str,
        user: str,
        entry: UserEntry | None,
        keyring: Keyring,
        *,
        unknown_kind: PasswordKind = PasswordKind.SCRAM,
        salt: bytes | None = None,
        nonce: bytes | None = None,
    ) -> None:
        self.user: str = user
        self.done: bool = False
        # What the server side may use once done: the entry, and what the client has shown us.
        self.credentials: Credentials = credentials_of(entry)
        self._entry: UserEntry | None = entry if entry is not None and entry.password else None
        self._keyring: Keyring = keyring
        self._salt: bytes = os.urandom(md5.SALT_LENGTH) if salt is None else salt
        self._nonce: bytes | None = nonce
        self._scram: ScramServer | None = None
        self._has_failed: bool = False
        kind = unknown_kind if self._entry is None else self._entry.kind
        if method not in (TRUST, PASSWORD, MD5, SCRAM_SHA_256):
            raise PgError(
                FEATURE_NOT_SUPPORTED,
                f'authentication method "{method}" is not supported',
                severity="FATAL",
            )
        if method == MD5 and kind == PasswordKind.SCRAM:
            method = SCRAM_SHA_256
        self.method: str = method

    @property
    def max_length(self) -> int:
        """The largest length word of an answer that may be read."""
        return MAX_SASL_LENGTH if self.method == SCRAM_SHA_256 else MAX_PASSWORD_LENGTH

    @property
    def is_slow(self) -> bool:
        """Whether the next `receive` may have to derive keys."""
        if self.method == PASSWORD:
            return True
        entry = self._entry
        if self.method != SCRAM_SHA_256 or self._scram is not None or entry is None:
            return False
        if entry.kind != PasswordKind.PLAIN:
            return False
        salt = self._keyring.salt(_encode(self.user))
        return self._keyring.find(_encode(entry.password), salt, self._keyring.iterations) is None

    def request(self) -> bytes:
        """The first Authentication frame; for `trust` already AuthenticationOk."""
        if self.method == PASSWORD:
            return write.authentication_cleartext()
        if self.method == MD5:
            return write.authentication_md5(self._salt)
        if self.method == SCRAM_SHA_256:
            return write.authentication_sasl([scram.MECHANISM])
        self.done = True
        return write.AUTHENTICATION_OK

    def receive(self, body: bytes) -> bytes:
        """The frames to send after the client's 'p' frame; AuthenticationOk is the last when `done`.

        Raises PgError FATAL: 28P01 for a wrong password, 08P01 for what is no answer.
        """
        assert not self.done, "nothing is asked any more"
        if self._has_failed or len(body) + 4 > self.max_length:
            raise self._wrong_password()
        self._has_failed = True  # until the answer has been found right
        try:
            if self.method == SCRAM_SHA_256:
                answer = self._receive_sasl(body)
            else:
                self._check_password(_password_of(body))
                self.done = True
                answer = write.AUTHENTICATION_OK
        except PgError as error:
            error.severity = "FATAL"  # there is no session yet that could go on
            raise
        self._has_failed = False
        return answer

    def unexpected(self, kind: int) -> PgError:
        """The error for a frame of another type than 'p'."""
        expected = "SASL" if self.method == SCRAM_SHA_256 else "password"
        return _violation(f"expected {expected} response, got message type {kind}")

    def _check_password(self, answer: bytes) -> None:
        if self.method == MD5:
            is_right = self._is_md5_right(answer)
        else:
            is_right = self._is_cleartext_right(answer)
        if not is_right:
            raise self._wrong_password()

    def _is_md5_right(self, answer: bytes) -> bool:
        user = _encode(self.user)
        entry = self._entry
        if entry is None:
            # Nobody's hash: the same steps, and no answer that fits.
            stored = md5.password_hash(os.urandom(16), user)
        elif entry.kind == PasswordKind.MD5:
            stored = entry.password
        else:
            stored = md5.password_hash(_encode(entry.password), user)
        return md5.verify(stored, self._salt, answer) and entry is not None

    def _is_cleartext_right(self, password: bytes) -> bool:
        user = _encode(self.user)
        entry = self._entry
        keyring = self._keyring
        if entry is not None and entry.secret is not None:
            secret = entry.secret
            keys = keyring.find(password, secret.salt, secret.iterations)
            if keys is None:
                keys = scram.derive(password, secret.salt, secret.iterations)
            is_right = hmac.compare_digest(keys.server_key, secret.server_key)
            if is_right:
                keyring.remember(password, keys)
                self.credentials = Credentials(password=_decode(password), keys=keys)
            return is_right
        is_right = False
        if entry is not None and entry.kind == PasswordKind.MD5:
            given = md5.password_hash(password, user)
            is_right = hmac.compare_digest(given, entry.password)
        elif entry is not None:
            is_right = hmac.compare_digest(password, _encode(entry.password))
        if is_right:
            self.credentials = Credentials(_decode(password), self.credentials.md5_hash)
        else:
            # Every failure costs one derivation, whatever is known of the user.
            scram.derive(password, keyring.salt(user), keyring.iterations)
        return is_right

    def _receive_sasl(self, body: bytes) -> bytes:
        exchange = self._scram
        if exchange is None:
            mechanism, data = read.sasl_initial_response(body)
            if mechanism != scram.MECHANISM:
                raise _violation("client selected an invalid SASL authentication mechanism")
            exchange = self._scram = self._make_exchange()
            if data is None:
                # A client may name the mechanism first and speak only when asked (RFC 4422, 3.3).
                return write.authentication_sasl_continue(b"")
            return write.authentication_sasl_continue(exchange.first(data))
        if not exchange.has_begun:
            return write.authentication_sasl_continue(exchange.first(body))
        final = exchange.final(body)
        if final is None:
            raise self._wrong_password()
        self.credentials = Credentials(
            self.credentials.password, self.credentials.md5_hash, exchange.keys
        )
        self.done = True
        return write.authentication_sasl_final(final) + write.AUTHENTICATION_OK

    def _make_exchange(self) -> ScramServer:
        entry = self._entry
        user = _encode(self.user)
        if entry is None or entry.kind == PasswordKind.MD5:
            return ScramServer(self._keyring.mock(user), doomed=True, nonce=self._nonce)
        if entry.secret is not None:
            return ScramServer(entry.secret, nonce=self._nonce)
        keys = self._keyring.prepare(user, _encode(entry.password))
        return ScramServer(keys.secret(), nonce=self._nonce)

    def _wrong_password(self) -> PgError:
        return PgError(
            INVALID_PASSWORD,
            f'password authentication failed for user "{self.user}"',
            severity="FATAL",
        )


@final
class ServerAuthentication:
    """Our log-in to one server as `user`: `receive()` per Authentication frame until `done`.

    The startup packet is the shell's; so are ErrorResponse and the frames after AuthenticationOk.
    `nonce` (SCRAM) is for tests.
    """

    def __init__(
        self,
        user: str,
        credentials: Credentials,
        keyring: Keyring,
        *,
        nonce: bytes | None = None,
    ) -> None:
        self.user: str = user
        self.done: bool = False
        self._credentials: Credentials = credentials
        self._keyring: Keyring = keyring
        self._nonce: bytes | None = nonce
        self._scram: ScramClient | None = None
        self._is_proven: bool = False

    @property
    def is_slow(self) -> bool:
        """Whether the next `receive` may have to derive keys."""
        return self._scram is not None and not self._is_proven and bool(self._credentials.password)

    def receive(self, body: bytes) -> bytes | None:
        """The frame to send after the server's 'R' frame, None for nothing.

        Raises PgError FATAL: 28P01 when what we know of the user is not what the server asks for,
        08004 when the server cannot prove that it knows the password, 0A000 for methods not
        spoken here, 08P01 for what is no such frame.
        """
        try:
            code, data = read.authentication(body)
            return self._answer(code, data)
        except PgError as error:
            error.severity = "FATAL"
            raise

    def _answer(self, code: int, data: bytes) -> bytes | None:
        if code == codes.AUTH_OK:
            if self._scram is not None and not self._is_proven:
                raise PgError(
                    scram.REJECTED_BY_SERVER,
                    "the server ended the SCRAM exchange without proving its identity",
                )
            self.done = True
            return None
        if code == codes.AUTH_CLEARTEXT:
            return self._answer_cleartext()
        if code == codes.AUTH_MD5:
            return self._answer_md5(data)
        if code == codes.AUTH_SASL:
            return self._begin_sasl(data)
        exchange = self._scram
        if code == codes.AUTH_SASL_CONTINUE and exchange is not None:
            exchange.challenge(data)
            return write.password_message(exchange.final(self._keys_for(exchange)))
        if code == codes.AUTH_SASL_FINAL and exchange is not None:
            exchange.verify(data)
            self._is_proven = True
            return None
        if code in (codes.AUTH_SASL_CONTINUE, codes.AUTH_SASL_FINAL):
            raise _violation("the server went on with a SASL exchange that it had not begun")
        raise PgError(
            FEATURE_NOT_SUPPORTED,
            f"the server asks for {_method_name(code)} authentication, which pgproxy does not speak",
            detail="Let the server's pg_hba.conf use trust, password, md5 or scram-sha-256 for "
            "connections from pgproxy.",
        )

    def _answer_cleartext(self) -> bytes:
        if not self._credentials.password:
            raise self._needs("a cleartext password", "the password in plain text")
        return write.password_message(_encode(self._credentials.password) + b"\x00")

    def _answer_md5(self, salt: bytes) -> bytes:
        if len(salt) != md5.SALT_LENGTH:
            raise _violation("invalid message format")
        stored = self._credentials.md5_hash
        if self._credentials.password:
            stored = md5.password_hash(_encode(self._credentials.password), _encode(self.user))
        if not stored:
            raise self._needs("an md5 password", "the password in plain text or as an md5 hash")
        return write.password_message(md5.response(stored, salt) + b"\x00")

    def _begin_sasl(self, data: bytes) -> bytes:
        mechanisms = read.sasl_mechanisms(data)
        if self._scram is not None:
            raise _violation("the server began a second SASL exchange")
        if scram.MECHANISM not in mechanisms:
            offered = b", ".join(mechanisms).decode("utf-8", "replace")
            raise PgError(
                FEATURE_NOT_SUPPORTED,
                f"none of the server's SASL authentication mechanisms are supported: {offered}",
            )
        if not self._credentials.password and self._credentials.keys is None:
            raise self._needs(
                "a SCRAM-SHA-256 password",
                "the password in plain text, or else the secret that the server itself stores, "
                "and then auth.method must be scram-sha-256",
            )
        self._scram = ScramClient(self._nonce)
        return write.sasl_initial_response(scram.MECHANISM, self._scram.first())

    def _keys_for(self, exchange: ScramClient) -> ScramKeys:
        keys = self._credentials.keys
        if (
            keys is not None
            and keys.iterations == exchange.iterations
            and keys.salt == exchange.salt
        ):
            return keys
        if not self._credentials.password:
            raise PgError(
                INVALID_PASSWORD,
                f'the SCRAM secret of user "{self.user}" is not the one the server has',
                detail="Put the server's own secret (pg_authid.rolpassword), or the password in "
                f"plain text, in {_PLACES}.",
            )
        password = _encode(self._credentials.password)
        return self._keyring.keys(password, exchange.salt, exchange.iterations)

    def _needs(self, what: str, accepted: str) -> PgError:
        return PgError(
            INVALID_PASSWORD,
            f'the server asks for {what}, and what is known of user "{self.user}" does not answer it',
            detail=f"In {_PLACES} must be {accepted}.",
        )


def _password_of(body: bytes) -> bytes:
    """The NUL-terminated password that fills a PasswordMessage."""
    if not body or body.find(b"\x00") != len(body) - 1:
        raise _violation("invalid password packet size")
    if len(body) == 1:
        raise PgError(INVALID_PASSWORD, "empty password returned by client")
    return body[:-1]


def _method_name(code: int) -> str:
    names = {
        codes.AUTH_KERBEROS_V5: "Kerberos V5",
        codes.AUTH_CRYPT: "crypt",
        codes.AUTH_SCM: "SCM credential",
        codes.AUTH_GSS: "GSSAPI",
        codes.AUTH_GSS_CONTINUE: "GSSAPI",
        codes.AUTH_SSPI: "SSPI",
    }
    return names.get(code, f"unknown (code {code})")


def _violation(message: str) -> PgError:
    return PgError(PROTOCOL_VIOLATION, message, severity="FATAL")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
