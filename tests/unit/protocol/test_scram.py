"""SCRAM-SHA-256: the RFC's own exchange, both roles against each other, and everything that is off."""

import base64
import hashlib
import hmac

import pytest

from pgproxy.errors import PgError
from pgproxy.protocol import scram
from pgproxy.protocol.scram import (
    Keyring,
    ScramClient,
    ScramKeys,
    ScramSecret,
    ScramServer,
    derive,
    parse_secret,
)

# RFC 7677, section 3.
USER = b"user"
PASSWORD = b"pencil"
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_NONCE = b"rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = b"n,,n=user,r=" + CLIENT_NONCE
SERVER_FIRST = b"r=" + CLIENT_NONCE + SERVER_NONCE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
WITHOUT_PROOF = b"c=biws,r=" + CLIENT_NONCE + SERVER_NONCE
CLIENT_FINAL = WITHOUT_PROOF + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def keys() -> ScramKeys:
    return derive(PASSWORD, SALT, 4096)


def server(*, doomed: bool = False) -> ScramServer:
    return ScramServer(keys().secret(), doomed=doomed, nonce=SERVER_NONCE)


def begun_server() -> ScramServer:
    begun = server()
    begun.first(CLIENT_FIRST)
    return begun


def challenged_client() -> ScramClient:
    client = ScramClient(CLIENT_NONCE)
    client.first(USER)
    client.challenge(SERVER_FIRST)
    return client


def error_of(caught: pytest.ExceptionInfo[PgError]) -> tuple[str, str, str]:
    assert caught.value.severity == "FATAL"
    return caught.value.sqlstate, caught.value.message, caught.value.detail


def test_server_answers_as_the_rfc_does() -> None:
    exchange = server()
    assert not exchange.has_begun
    assert exchange.first(CLIENT_FIRST) == SERVER_FIRST
    assert exchange.has_begun
    assert exchange.final(CLIENT_FINAL) == SERVER_FINAL


def test_client_answers_as_the_rfc_does() -> None:
    client = ScramClient(CLIENT_NONCE)
    assert client.first(USER) == CLIENT_FIRST
    client.challenge(SERVER_FIRST)
    assert (client.salt, client.iterations) == (SALT, 4096)
    assert client.final(keys()) == CLIENT_FINAL
    client.verify(SERVER_FINAL)


def test_server_recovers_keys_that_log_in_elsewhere() -> None:
    exchange = begun_server()
    exchange.final(CLIENT_FINAL)
    recovered = exchange.keys
    assert recovered is not None
    assert recovered.client_key == keys().client_key
    other_server = ScramServer(keys().secret())
    client = ScramClient()
    client.challenge(other_server.first(client.first()))
    assert (client.salt, client.iterations) == (recovered.salt, recovered.iterations)
    final = other_server.final(client.final(recovered))
    assert final is not None
    client.verify(final)


@pytest.mark.parametrize("flag", [b"n", b"y"])
def test_server_takes_clients_with_and_without_channel_binding(flag: bytes) -> None:
    exchange = server()
    first = exchange.first(flag + b",,n=,r=abc")
    binding = b"c=" + base64.b64encode(flag + b",,")
    without_proof = binding + b",r=abc" + SERVER_NONCE
    message = b",".join((b"n=,r=abc", first, without_proof))
    signature = hmac.digest(keys().secret().stored_key, message, "sha256")
    proof = bytes(a ^ b for a, b in zip(keys().client_key, signature, strict=True))
    assert exchange.final(without_proof + b",p=" + base64.b64encode(proof)) is not None


def test_optional_extensions_are_skipped() -> None:
    exchange = server()
    first = exchange.first(CLIENT_FIRST + b",x=whatever,Y=")
    assert first == SERVER_FIRST
    # The proof covers the extensions: the one for the exchange without them is wrong now.
    assert exchange.final(CLIENT_FINAL) is None


def test_a_wrong_password_is_no_exception() -> None:
    client = challenged_client()
    exchange = begun_server()
    assert exchange.final(client.final(derive(b"pencil!", SALT, 4096))) is None
    assert exchange.keys is None


def test_a_doomed_exchange_fails_with_the_right_password_too() -> None:
    exchange = server(doomed=True)
    assert exchange.first(CLIENT_FIRST) == SERVER_FIRST
    assert exchange.final(CLIENT_FINAL) is None
    assert exchange.keys is None


def test_every_flipped_bit_of_a_proof_is_found() -> None:
    proof = base64.b64decode(CLIENT_FINAL.rsplit(b"p=", maxsplit=1)[1])
    for bit in range(256):
        flipped = bytearray(proof)
        flipped[bit // 8] ^= 1 << bit % 8
        message = WITHOUT_PROOF + b",p=" + base64.b64encode(flipped)
        assert begun_server().final(message) is None


@pytest.mark.parametrize(
    ("message", "sqlstate", "text", "detail"),
    [
        (b"", "08P01", "malformed SCRAM message", "The message is empty."),
        (
            b"n,,n=,r=a\0b",
            "08P01",
            "malformed SCRAM message",
            "Message length does not match input length.",
        ),
        (
            b"x",
            "08P01",
            "malformed SCRAM message",
            "Unexpected channel-binding flag \"'x'\".",
        ),
        (
            b"p=tls-server-end-point,,n=,r=a",
            "08P01",
            "malformed SCRAM message",
            "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message "
            "includes channel binding data.",
        ),
        (
            b"n;",
            "08P01",
            "malformed SCRAM message",
            "Comma expected, but found character \"';'\".",
        ),
        (b"n", "08P01", "malformed SCRAM message", 'Comma expected, but found character "0x00".'),
        (
            b"n,a=x,n=,r=a",
            "0A000",
            "client uses authorization identity, but it is not supported",
            "",
        ),
        (
            b"n,x,n=,r=a",
            "08P01",
            "malformed SCRAM message",
            "Unexpected attribute \"'x'\" in client-first-message.",
        ),
        (b"n,,m=x", "0A000", "client requires an unsupported SCRAM extension", ""),
        (
            b"n,,r=a",
            "08P01",
            "malformed SCRAM message",
            'Expected attribute "n" but found "\'r\'".',
        ),
        (
            b"n,,n=,\xff=a",
            "08P01",
            "malformed SCRAM message",
            'Expected attribute "r" but found "0xff".',
        ),
        (b"n,,n", "08P01", "malformed SCRAM message", 'Expected character "=" for attribute "n".'),
        (b"n,,n=,r=\x7fa", "08P01", "non-printable characters in SCRAM nonce", ""),
        (
            b"n,,n=,r=a,9",
            "08P01",
            "malformed SCRAM message",
            "Attribute expected, but found invalid character \"'9'\".",
        ),
        (
            b"n,,n=,r=a,e",
            "08P01",
            "malformed SCRAM message",
            'Expected character "=" for attribute "e".',
        ),
    ],
)
def test_a_wrong_first_message_is_refused_as_postgresql_does(
    message: bytes, sqlstate: str, text: str, detail: str
) -> None:
    with pytest.raises(PgError) as caught:
        server().first(message)
    assert error_of(caught) == (sqlstate, text, detail)


@pytest.mark.parametrize(
    ("message", "text", "detail"),
    [
        (b"", "malformed SCRAM message", "The message is empty."),
        (
            b"c=eSws" + CLIENT_FINAL[6:],
            "unexpected SCRAM channel-binding attribute in client-final-message",
            "",
        ),
        (
            WITHOUT_PROOF,
            "malformed SCRAM message",
            "Attribute expected, but found end of string.",
        ),
        (
            WITHOUT_PROOF + b",p=x",
            "malformed SCRAM message",
            "Malformed proof in client-final-message.",
        ),
        (
            WITHOUT_PROOF + b",p=QUJD",
            "malformed SCRAM message",
            "Malformed proof in client-final-message.",
        ),
        (
            CLIENT_FINAL + b",x=1",
            "malformed SCRAM message",
            "Garbage found at the end of client-final-message.",
        ),
        (
            CLIENT_FINAL.replace(SERVER_NONCE, b"mine"),
            "invalid SCRAM response",
            "Nonce does not match.",
        ),
        (
            CLIENT_FINAL.replace(CLIENT_NONCE, b""),
            "invalid SCRAM response",
            "Nonce does not match.",
        ),
    ],
)
def test_a_wrong_final_message_is_refused_as_postgresql_does(
    message: bytes, text: str, detail: str
) -> None:
    with pytest.raises(PgError) as caught:
        begun_server().final(message)
    assert error_of(caught) == ("08P01", text, detail)


@pytest.mark.parametrize(
    ("message", "text", "detail"),
    [
        (b"", "malformed SCRAM message", "The message is empty."),
        (
            SERVER_FIRST.replace(CLIENT_NONCE, b"other"),
            "invalid SCRAM response",
            "Nonce does not match.",
        ),
        (
            SERVER_FIRST.replace(SERVER_NONCE, b"\x01"),
            "invalid SCRAM response",
            "Nonce does not match.",
        ),
        (SERVER_FIRST.replace(b",s=W22", b",s=W2"), "malformed SCRAM message", "Invalid salt."),
        (b"r=" + CLIENT_NONCE + b",s=,i=1", "malformed SCRAM message", "Invalid salt."),
        (
            SERVER_FIRST.replace(b"4096", b"0"),
            "malformed SCRAM message",
            "Invalid iteration count.",
        ),
        (
            SERVER_FIRST.replace(b"4096", b"-1"),
            "malformed SCRAM message",
            "Invalid iteration count.",
        ),
        (
            SERVER_FIRST.replace(b"4096", b"9" * 5000),
            "malformed SCRAM message",
            "Invalid iteration count.",
        ),
        (
            SERVER_FIRST.replace(b",i=4096", b""),
            "malformed SCRAM message",
            'Expected attribute "i" but found "0x00".',
        ),
    ],
)
def test_client_refuses_a_wrong_challenge(message: bytes, text: str, detail: str) -> None:
    client = ScramClient(CLIENT_NONCE)
    client.first(USER)
    with pytest.raises(PgError) as caught:
        client.challenge(message)
    assert error_of(caught) == ("08P01", text, detail)


def test_client_does_not_work_for_hours() -> None:
    client = ScramClient(CLIENT_NONCE)
    client.first(USER)
    with pytest.raises(PgError, match="2147483647 SCRAM iterations") as caught:
        client.challenge(SERVER_FIRST.replace(b"4096", b"2147483647"))
    assert caught.value.sqlstate == "0A000"


def test_client_unmasks_a_server_that_does_not_know_the_secret() -> None:
    client = challenged_client()
    client.final(keys())
    with pytest.raises(PgError, match="incorrect server signature") as caught:
        client.verify(b"v=" + base64.b64encode(bytes(32)))
    assert caught.value.sqlstate == "08004"


def test_client_refuses_an_empty_signature_before_its_own_final() -> None:
    client = challenged_client()
    with pytest.raises(PgError, match="malformed SCRAM message"):
        client.verify(b"v=")


def test_client_passes_the_servers_error_on() -> None:
    client = challenged_client()
    client.final(keys())
    with pytest.raises(PgError, match="SCRAM exchange: invalid-proof") as caught:
        client.verify(b"e=invalid-proof")
    assert caught.value.sqlstate == "28P01"


def test_nonces_differ_and_are_printable() -> None:
    nonces = {scram.make_nonce() for _ in range(50)}
    assert len(nonces) == 50
    assert {len(nonce) for nonce in nonces} == {24}
    ScramServer(keys().secret()).first(b"n,,n=,r=" + nonces.pop())


def test_a_secret_is_read_and_written_as_postgresql_does() -> None:
    text = (
        "SCRAM-SHA-256$4096:naxAPxSZrF7uIHI8WZ/SVw==$Rd/e2+CZOX5PF3whAopAlB0syvYuIAskEgDm/iKbwWg="
        ":x5S7gxv1V4szcfOf5F68x5Hkc2BlCYY7Q8B9L7VxVN8="
    )
    secret = parse_secret(text)
    assert secret is not None
    assert secret.text() == text
    assert derive(b"secret", secret.salt, secret.iterations).secret().text() == text


GOOD = ScramSecret(4096, b"salt", bytes(32), bytes(32)).text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SCRAM-SHA-256",
        "scram-sha-256" + GOOD[13:],
        "SCRAM-SHA-1" + GOOD[13:],
        GOOD.replace("4096", "0"),
        GOOD.replace("4096", "-1"),
        GOOD.replace("4096", "٤"),
        GOOD.replace("4096", "9" * 5000),
        GOOD.replace("4096:", "4096"),
        GOOD.replace(":c2FsdA==", ":"),
        GOOD.replace("c2FsdA==", "c2FsdA="),
        GOOD.replace("c2FsdA==", "\udcff"),
        GOOD[:-1],
        GOOD + "$",
        GOOD.replace("AAA=:", "AAA="),
        GOOD.replace("A" * 43, "A" * 39),
    ],
)
def test_other_texts_are_no_secrets(text: str) -> None:
    assert parse_secret(GOOD) is not None
    assert parse_secret(text) is None


def test_the_secret_of_keys_holds_only_the_hash_of_the_client_key() -> None:
    secret = keys().secret()
    assert secret.stored_key == hashlib.sha256(keys().client_key).digest()
    assert (secret.iterations, secret.salt, secret.server_key) == (4096, SALT, keys().server_key)


def test_salts_of_a_keyring_are_stable_and_secret() -> None:
    ring = Keyring(nonce=b"n")
    assert ring.salt(b"bob") == ring.salt(b"bob") == Keyring(nonce=b"n").salt(b"bob")
    assert len({ring.salt(b"bob"), ring.salt(b"eve"), Keyring().salt(b"bob")}) == 3
    assert len(ring.salt(b"bob")) == scram.SALT_LENGTH


def test_a_mock_secret_looks_like_that_of_a_user_with_a_plain_password() -> None:
    ring = Keyring(iterations=1)
    mock, real = ring.mock(b"bob"), ring.prepare(b"bob", b"secret").secret()
    assert (mock.salt, mock.iterations) == (real.salt, real.iterations)


def test_a_keyring_derives_once() -> None:
    ring = Keyring()
    assert ring.find(b"secret", b"salt", 1) is None
    derived = ring.keys(b"secret", b"salt", 1)
    assert ring.keys(b"secret", b"salt", 1) is derived
    assert ring.find(b"secret", b"salt", 1) is derived
    assert ring.find(b"secret", b"tlas", 1) is None
    assert ring.find(b"secret", b"salt", 2) is None
    assert ring.find(b"secreT", b"salt", 1) is None


def test_a_full_keyring_starts_over() -> None:
    ring = Keyring(limit=2)
    first = ring.keys(b"1", b"salt", 1)
    ring.keys(b"2", b"salt", 1)
    assert ring.find(b"1", b"salt", 1) is first
    ring.keys(b"3", b"salt", 1)
    assert ring.find(b"1", b"salt", 1) is None
    assert ring.find(b"3", b"salt", 1) is not None
