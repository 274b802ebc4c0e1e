"""Log-in exchanges, message by message, with PostgreSQL's own refusals."""

import struct

import pytest

from pgproxy.errors import PgError
from pgproxy.frames import codes, read, write
from pgproxy.protocol import md5, scram
from pgproxy.protocol.authentication import (
    ClientAuthentication,
    Credentials,
    ServerAuthentication,
    credentials_of,
)
from pgproxy.protocol.scram import Keyring, ScramClient, derive
from pgproxy.protocol.userlist import PasswordKind, UserEntry

WRONG = ("28P01", 'password authentication failed for user "bob"', "FATAL")
PLAIN = UserEntry("bob", "pässword")
MD5 = UserEntry("bob", md5.password_hash("pässword".encode(), b"bob"))
SECRET = UserEntry("bob", derive("pässword".encode(), b"salt", 2).secret().text())
PASSWORD = "pässword\0".encode()


@pytest.fixture
def keyring() -> Keyring:
    return Keyring(nonce=b"nonce", iterations=2)


def refused(authentication: ClientAuthentication, body: bytes) -> tuple[str, str, str]:
    with pytest.raises(PgError) as caught:
        authentication.receive(body)
    assert not authentication.done
    error = caught.value
    return error.sqlstate, error.message, error.severity


def initial(data: bytes, mechanism: bytes = b"SCRAM-SHA-256") -> bytes:
    return write.sasl_initial_response(mechanism, data)[5:]


def log_in_by_scram(authentication: ClientAuthentication, password: bytes) -> bytes:
    """What the client gets in the end, from a client that knows `password`."""
    assert authentication.request() == write.authentication_sasl([b"SCRAM-SHA-256"])
    client = ScramClient()
    answer = authentication.receive(initial(client.first()))
    code, data = read.authentication(answer[5:])
    assert code == codes.AUTH_SASL_CONTINUE
    client.challenge(data)
    final = authentication.receive(client.final(derive(password, client.salt, client.iterations)))
    assert final.endswith(write.AUTHENTICATION_OK)
    code, data = read.authentication(final[5 : -len(write.AUTHENTICATION_OK)])
    assert code == codes.AUTH_SASL_FINAL
    client.verify(data)
    return final


# Clients.


@pytest.mark.parametrize("entry", [None, PLAIN, SECRET])
def test_trust_asks_nothing(entry: UserEntry | None, keyring: Keyring) -> None:
    authentication = ClientAuthentication("trust", "bob", entry, keyring)
    assert authentication.request() == write.AUTHENTICATION_OK
    assert authentication.done
    assert authentication.credentials.password == ("pässword" if entry is PLAIN else "")


@pytest.mark.parametrize("entry", [PLAIN, MD5, SECRET])
def test_password_is_checked_against_every_kind_of_entry(
    entry: UserEntry, keyring: Keyring
) -> None:
    authentication = ClientAuthentication("password", "bob", entry, keyring)
    assert authentication.request() == write.authentication_cleartext()
    assert not authentication.done
    assert authentication.receive(PASSWORD) == write.AUTHENTICATION_OK
    assert authentication.done


@pytest.mark.parametrize("entry", [None, PLAIN, MD5, SECRET, UserEntry("bob", "")])
def test_a_wrong_password_is_refused_whatever_the_entry(
    entry: UserEntry | None, keyring: Keyring
) -> None:
    authentication = ClientAuthentication("password", "bob", entry, keyring)
    authentication.request()
    assert refused(authentication, b"guess\0") == WRONG


def test_a_password_shown_in_clear_is_good_for_servers(keyring: Keyring) -> None:
    for entry in (PLAIN, MD5, SECRET):
        authentication = ClientAuthentication("password", "bob", entry, keyring)
        authentication.request()
        authentication.receive(PASSWORD)
        assert authentication.credentials.password == "pässword"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ("08P01", "invalid password packet size", "FATAL")),
        (b"a", ("08P01", "invalid password packet size", "FATAL")),
        (b"a\0b\0", ("08P01", "invalid password packet size", "FATAL")),
        (b"\0", ("28P01", "empty password returned by client", "FATAL")),
        (b"x" * 65531 + b"\0", WRONG),
    ],
)
@pytest.mark.parametrize(("method", "entry"), [("password", PLAIN), ("md5", MD5)])
def test_what_is_no_password_message_is_refused(
    method: str, entry: UserEntry, body: bytes, expected: object, keyring: Keyring
) -> None:
    authentication = ClientAuthentication(method, "bob", entry, keyring)
    authentication.request()
    assert refused(authentication, body) == expected


@pytest.mark.parametrize("entry", [PLAIN, MD5])
def test_md5_takes_plain_and_hashed_entries(entry: UserEntry, keyring: Keyring) -> None:
    authentication = ClientAuthentication("md5", "bob", entry, keyring, salt=b"salt")
    assert authentication.request() == write.authentication_md5(b"salt")
    answer = md5.response(MD5.password, b"salt") + b"\0"
    assert authentication.receive(answer) == write.AUTHENTICATION_OK
    assert authentication.done


def test_md5_salts_differ(keyring: Keyring) -> None:
    requests = {ClientAuthentication("md5", "bob", MD5, keyring).request() for _ in range(20)}
    assert len(requests) == 20


@pytest.mark.parametrize(
    "answer", [b"md5\0", MD5.password.encode() + b"\0", md5.response(MD5.password, b"tlas") + b"\0"]
)
@pytest.mark.parametrize("entry", [PLAIN, MD5, None])
def test_md5_refuses_another_answer(
    entry: UserEntry | None, answer: bytes, keyring: Keyring
) -> None:
    authentication = ClientAuthentication(
        "md5", "bob", entry, keyring, salt=b"salt", unknown_kind=PasswordKind.MD5
    )
    assert authentication.request() == write.authentication_md5(b"salt")
    assert refused(authentication, answer) == WRONG


def test_md5_uses_scram_for_entries_that_are_secrets(keyring: Keyring) -> None:
    authentication = ClientAuthentication("md5", "bob", SECRET, keyring)
    log_in_by_scram(authentication, "pässword".encode())
    assert authentication.done


@pytest.mark.parametrize("entry", [PLAIN, SECRET])
def test_scram_takes_plain_entries_and_secrets(entry: UserEntry, keyring: Keyring) -> None:
    authentication = ClientAuthentication("scram-sha-256", "bob", entry, keyring)
    log_in_by_scram(authentication, "pässword".encode())
    assert authentication.done


@pytest.mark.parametrize("entry", [None, PLAIN, MD5, SECRET, UserEntry("bob", "")])
def test_scram_refuses_a_wrong_password_at_the_last_step(
    entry: UserEntry | None, keyring: Keyring
) -> None:
    authentication = ClientAuthentication("scram-sha-256", "bob", entry, keyring)
    with pytest.raises(PgError) as caught:
        log_in_by_scram(authentication, b"guess")
    assert (caught.value.sqlstate, caught.value.message, caught.value.severity) == WRONG
    assert not authentication.done


def test_scram_never_takes_an_md5_entry(keyring: Keyring) -> None:
    authentication = ClientAuthentication("scram-sha-256", "bob", MD5, keyring)
    with pytest.raises(PgError, match="password authentication failed"):
        log_in_by_scram(authentication, "pässword".encode())


def test_a_known_and_an_unknown_user_are_challenged_alike(keyring: Keyring) -> None:
    challenges = [
        [
            ClientAuthentication("scram-sha-256", "bob", entry, keyring, nonce=b"fixed").receive(
                initial(b"n,,n=,r=abc")
            )
            for _ in range(2)
        ]
        for entry in (PLAIN, MD5, None)
    ]
    assert challenges[0] == challenges[1] == challenges[2]
    assert challenges[0][0] == challenges[0][1]


def test_a_client_may_name_its_mechanism_before_it_speaks(keyring: Keyring) -> None:
    authentication = ClientAuthentication("scram-sha-256", "bob", PLAIN, keyring)
    answer = authentication.receive(b"SCRAM-SHA-256\0\xff\xff\xff\xff")
    assert answer == write.authentication_sasl_continue(b"")
    assert b"r=abc" in authentication.receive(b"n,,n=,r=abc")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            initial(b"x", b"SCRAM-SHA-256-PLUS"),
            "client selected an invalid SASL authentication mechanism",
        ),
        (initial(b"x", b""), "client selected an invalid SASL authentication mechanism"),
        (b"abc", "invalid string in message"),
        (b"SCRAM-SHA-256\0\0\0\0\x05abc", "insufficient data left in message"),
        (b"SCRAM-SHA-256\0\0\0\0\x02abc", "invalid message format"),
        (initial(b""), "malformed SCRAM message"),
    ],
)
def test_what_is_no_sasl_message_is_refused(body: bytes, message: str, keyring: Keyring) -> None:
    authentication = ClientAuthentication("scram-sha-256", "bob", PLAIN, keyring)
    assert refused(authentication, body) == ("08P01", message, "FATAL")


def test_an_oversized_sasl_message_is_refused(keyring: Keyring) -> None:
    authentication = ClientAuthentication("scram-sha-256", "bob", PLAIN, keyring)
    assert authentication.max_length == 1024
    assert refused(authentication, initial(b"n,,n=,r=" + b"a" * 1000)) == WRONG


def test_there_is_no_second_try(keyring: Keyring) -> None:
    authentication = ClientAuthentication("password", "bob", PLAIN, keyring)
    assert refused(authentication, b"guess\0") == WRONG
    assert refused(authentication, PASSWORD) == WRONG


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("scram-sha-256", "expected SASL response, got message type 81"),
        ("password", "expected password response, got message type 81"),
        ("md5", "expected password response, got message type 81"),
    ],
)
def test_another_frame_is_named_by_its_type(method: str, expected: str, keyring: Keyring) -> None:
    error = ClientAuthentication(method, "bob", PLAIN, keyring).unexpected(codes.F_QUERY)
    assert (error.sqlstate, error.message, error.severity) == ("08P01", expected, "FATAL")


def test_an_unknown_method_is_refused(keyring: Keyring) -> None:
    with pytest.raises(PgError, match='method "ldap"') as caught:
        ClientAuthentication("ldap", "bob", PLAIN, keyring)
    assert caught.value.sqlstate == "0A000"


def test_slow_steps_are_announced(keyring: Keyring) -> None:
    authentication = ClientAuthentication("scram-sha-256", "bob", PLAIN, keyring)
    assert authentication.is_slow
    authentication.receive(initial(b"n,,n=,r=abc"))
    assert not authentication.is_slow
    # The next log-in finds the keys derived, and so does one prepared for.
    assert not ClientAuthentication("scram-sha-256", "bob", PLAIN, keyring).is_slow
    eve = UserEntry("eve", "x")
    assert ClientAuthentication("scram-sha-256", "eve", eve, keyring).is_slow
    keyring.prepare(b"eve", b"x")
    assert not ClientAuthentication("scram-sha-256", "eve", eve, keyring).is_slow


def test_steps_that_derive_nothing_are_not_slow(keyring: Keyring) -> None:
    assert not ClientAuthentication("scram-sha-256", "bob", SECRET, keyring).is_slow
    assert not ClientAuthentication("scram-sha-256", "bob", MD5, keyring).is_slow
    assert not ClientAuthentication("scram-sha-256", "bob", None, keyring).is_slow
    assert not ClientAuthentication("md5", "bob", PLAIN, keyring).is_slow
    assert ClientAuthentication("password", "bob", None, keyring).is_slow


@pytest.mark.parametrize("entry", [None, PLAIN, MD5, SECRET])
def test_every_refused_cleartext_password_costs_one_derivation(
    entry: UserEntry | None, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs: list[int] = []

    def counting(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        costs.append(iterations)
        return bytes(32)

    monkeypatch.setattr(scram.hashlib, "pbkdf2_hmac", counting)
    authentication = ClientAuthentication("password", "bob", entry, keyring)
    assert refused(authentication, b"guess\0") == WRONG
    assert costs == [2]


# Servers.


def login(credentials: Credentials, keyring: Keyring) -> ServerAuthentication:
    return ServerAuthentication("bob", credentials, keyring)


def request(code: int, data: bytes = b"") -> bytes:
    return struct.pack("!I", code) + data


def failure(authentication: ServerAuthentication, body: bytes) -> PgError:
    with pytest.raises(PgError) as caught:
        authentication.receive(body)
    assert caught.value.severity == "FATAL"
    assert not authentication.done
    return caught.value


def test_entries_are_good_for_what_they_hold() -> None:
    assert credentials_of(None).password == ""
    assert credentials_of(PLAIN).password == "pässword"
    assert credentials_of(MD5).md5_hash == MD5.password
    assert credentials_of(MD5).password == ""
    secret = credentials_of(SECRET)
    assert (secret.password, secret.md5_hash, secret.keys) == ("", "", None)


def test_credentials_show_no_secret() -> None:
    keys = derive(b"hunter2", b"salt", 1)
    assert (
        repr(Credentials("hunter2", "md5hunter2", keys)) == "Credentials(password, md5_hash, keys)"
    )
    assert repr(Credentials()) == "Credentials()"


def test_a_server_that_trusts_is_believed(keyring: Keyring) -> None:
    authentication = login(Credentials(), keyring)
    assert authentication.receive(request(codes.AUTH_OK)) is None
    assert authentication.done


def test_a_cleartext_request_gets_the_password(keyring: Keyring) -> None:
    authentication = login(Credentials("pässword"), keyring)
    assert authentication.receive(request(codes.AUTH_CLEARTEXT)) == (
        write.password_message(PASSWORD)
    )
    assert not authentication.done


@pytest.mark.parametrize("entry", [PLAIN, MD5])
def test_an_md5_request_gets_its_response(entry: UserEntry, keyring: Keyring) -> None:
    authentication = login(credentials_of(entry), keyring)
    assert authentication.receive(request(codes.AUTH_MD5, b"salt")) == (
        write.password_message(md5.response(MD5.password, b"salt") + b"\0")
    )


@pytest.mark.parametrize(
    ("credentials", "body", "what"),
    [
        (Credentials(), request(codes.AUTH_CLEARTEXT), "a cleartext password"),
        (credentials_of(MD5), request(codes.AUTH_CLEARTEXT), "a cleartext password"),
        (Credentials(), request(codes.AUTH_MD5, b"salt"), "an md5 password"),
        (
            Credentials(),
            request(codes.AUTH_SASL, b"SCRAM-SHA-256\0\0"),
            "a SCRAM-SHA-256 password",
        ),
        (
            credentials_of(MD5),
            request(codes.AUTH_SASL, b"SCRAM-SHA-256\0\0"),
            "a SCRAM-SHA-256 password",
        ),
    ],
)
def test_a_request_we_have_nothing_for_names_what_is_missing(
    credentials: Credentials, body: bytes, what: str, keyring: Keyring
) -> None:
    error = failure(login(credentials, keyring), body)
    assert error.sqlstate == "28P01"
    assert error.message == (
        f'the server asks for {what}, and what is known of user "bob" does not answer it'
    )
    assert error.detail.startswith(
        "In auth.users_file, users_env or users_dirs must be the password in plain text"
    )


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (codes.AUTH_KERBEROS_V5, "Kerberos V5"),
        (codes.AUTH_CRYPT, "crypt"),
        (codes.AUTH_SCM, "SCM credential"),
        (codes.AUTH_GSS, "GSSAPI"),
        (codes.AUTH_GSS_CONTINUE, "GSSAPI"),
        (codes.AUTH_SSPI, "SSPI"),
        (99, "unknown (code 99)"),
    ],
)
def test_methods_we_do_not_speak_are_named(code: int, name: str, keyring: Keyring) -> None:
    error = failure(login(Credentials("x"), keyring), request(code))
    assert error.sqlstate == "0A000"
    assert f"the server asks for {name} authentication" in error.message


def test_mechanisms_we_do_not_speak_are_named(keyring: Keyring) -> None:
    body = request(codes.AUTH_SASL, b"OAUTHBEARER\0SCRAM-SHA-256-PLUS\0\0")
    error = failure(login(Credentials("x"), keyring), body)
    assert error.sqlstate == "0A000"
    assert error.message.endswith("OAUTHBEARER, SCRAM-SHA-256-PLUS")


@pytest.mark.parametrize("entry", [PLAIN, SECRET])
def test_keys_learnt_from_a_client_open_a_server_with_the_same_secret(
    entry: UserEntry, keyring: Keyring
) -> None:
    client = ClientAuthentication("scram-sha-256", "bob", SECRET, keyring)
    log_in_by_scram(client, "pässword".encode())
    server = ClientAuthentication("scram-sha-256", "bob", entry, keyring)
    authentication = login(client.credentials, keyring)
    first = authentication.receive(server.request()[5:])
    assert first is not None
    challenge = server.receive(first[5:])
    if entry is PLAIN:  # the same password, but another salt
        error = failure(authentication, challenge[5:])
        assert error.sqlstate == "28P01"
        assert "is not the one the server has" in error.message
        return
    final = authentication.receive(challenge[5:])
    assert final is not None
    done = server.receive(final[5:])
    assert authentication.receive(done[5 : -len(write.AUTHENTICATION_OK)]) is None
    assert not authentication.done
    assert authentication.receive(write.AUTHENTICATION_OK[5:]) is None
    assert authentication.done


def test_a_server_must_prove_itself_before_it_says_ok(keyring: Keyring) -> None:
    authentication = login(Credentials("x"), keyring)
    authentication.receive(request(codes.AUTH_SASL, b"SCRAM-SHA-256\0\0"))
    assert authentication.is_slow
    error = failure(authentication, request(codes.AUTH_OK))
    assert error.sqlstate == "08004"
    assert "without proving its identity" in error.message


@pytest.mark.parametrize("code", [codes.AUTH_SASL_CONTINUE, codes.AUTH_SASL_FINAL])
def test_sasl_out_of_order_is_a_violation(code: int, keyring: Keyring) -> None:
    error = failure(login(Credentials("x"), keyring), request(code, b"r=x"))
    assert error.sqlstate == "08P01"


def test_sasl_begins_once(keyring: Keyring) -> None:
    authentication = login(Credentials("x"), keyring)
    body = request(codes.AUTH_SASL, b"SCRAM-SHA-256\0\0")
    authentication.receive(body)
    assert failure(authentication, body).sqlstate == "08P01"


@pytest.mark.parametrize("body", [b"", b"\0\0\0", request(codes.AUTH_MD5, b"abc")])
def test_a_broken_request_is_a_violation(body: bytes, keyring: Keyring) -> None:
    assert failure(login(Credentials("x"), keyring), body).sqlstate == "08P01"
