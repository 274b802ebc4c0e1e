"""Both roles of every method against each other, and against anything at all."""

from hypothesis import given
from hypothesis import strategies as st

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.protocol import md5
from pgproxy.protocol.authentication import (
    ClientAuthentication,
    Credentials,
    ServerAuthentication,
    credentials_of,
)
from pgproxy.protocol.scram import Keyring, derive
from pgproxy.protocol.userlist import PasswordKind, UserEntry

METHODS = ["trust", "password", "md5", "scram-sha-256"]
KINDS = list(PasswordKind)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
# A password that looks like a hash is one.
passwords = texts.filter(lambda text: UserEntry("", text).kind is PasswordKind.PLAIN)
methods = st.sampled_from(METHODS)
kinds = st.sampled_from(KINDS)


def entry_of(kind: PasswordKind, user: str, password: str) -> UserEntry:
    stored = {
        PasswordKind.PLAIN: password,
        PasswordKind.MD5: md5.password_hash(password.encode(), user.encode()),
        PasswordKind.SCRAM: derive(password.encode(), b"salt", 2).secret().text(),
    }
    return UserEntry(user, stored[kind])


def keyring() -> Keyring:
    return Keyring(nonce=b"nonce", iterations=2)


def frames(data: bytes) -> list[bytes]:
    """The bodies of the frames in `data`."""
    bodies = []
    while data:
        end = 1 + int.from_bytes(data[1:5], "big")
        bodies.append(data[5:end])
        data = data[end:]
    return bodies


def converse(server: ClientAuthentication, client: ServerAuthentication) -> None:
    """Both roles to the end; raises PgError where one refuses."""
    pending = frames(server.request())
    while not client.done:
        answer = client.receive(pending.pop(0))
        if answer is not None:
            pending += frames(server.receive(*frames(answer)))
    assert server.done
    assert not pending


@given(method=methods, kind=kinds, user=texts, password=passwords)
def test_who_knows_the_password_gets_in(
    method: str, kind: PasswordKind, user: str, password: str
) -> None:
    entry = entry_of(kind, user, password)
    server = ClientAuthentication(method, user, entry, keyring())
    client = ServerAuthentication(user, Credentials(password), keyring())
    sqlstate = ""
    try:
        converse(server, client)
    except PgError as error:
        sqlstate = error.sqlstate
    impossible = method == "scram-sha-256" and kind is PasswordKind.MD5
    assert sqlstate == ("28P01" if impossible else "")


@given(
    method=methods.filter(lambda method: method != "trust"),
    kind=st.none() | kinds,
    user=texts,
    password=passwords,
    guess=passwords,
)
def test_who_does_not_know_it_does_not(
    method: str, kind: PasswordKind | None, user: str, password: str, guess: str
) -> None:
    if kind is not None and guess == password:
        guess += "!"
    entry = None if kind is None else entry_of(kind, user, password)
    server = ClientAuthentication(method, user, entry, keyring())
    client = ServerAuthentication(user, Credentials(guess), keyring())
    refusal = ("", "")
    try:
        converse(server, client)
    except PgError as error:
        refusal = (error.sqlstate, error.message)
    assert refusal == ("28P01", f'password authentication failed for user "{user}"')


@given(method=methods, kind=kinds, behind=kinds, user=texts, password=passwords)
def test_what_a_client_shows_opens_servers_that_store_the_same(
    method: str, kind: PasswordKind, behind: PasswordKind, user: str, password: str
) -> None:
    """The proxy in the middle: a server with the same entry, asked by its own best method."""
    ring = keyring()
    front = ClientAuthentication(method, user, entry_of(kind, user, password), ring)
    refusal = ""
    try:
        converse(front, ServerAuthentication(user, Credentials(password), keyring()))
        asks = "md5" if behind is not PasswordKind.PLAIN else "password"
        backend = ClientAuthentication(asks, user, entry_of(behind, user, password), keyring())
        converse(backend, ServerAuthentication(user, front.credentials, ring))
    except PgError as error:
        refusal = error.sqlstate
    knows_password = kind is PasswordKind.PLAIN or method == "password"
    by_hash = kind is PasswordKind.MD5 and behind is PasswordKind.MD5
    by_keys = kind is PasswordKind.SCRAM and behind is PasswordKind.SCRAM and method != "trust"
    enters = not (method == "scram-sha-256" and kind is PasswordKind.MD5)
    opens = enters and (knows_password or by_hash or by_keys)
    assert refusal == ("" if opens else "28P01")


@given(
    method=methods.filter(lambda method: method != "trust"),
    kind=st.none() | kinds,
    bodies=st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.lists(
                st.sampled_from(
                    [b"SCRAM-SHA-256\0", b"\0\0\0\x09", b"n,,", b"n=,", b"r=a", b"\0", b"c=biws,"]
                )
            ).map(b"".join),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_no_bytes_of_a_client_do_anything_but_fail(
    method: str, kind: PasswordKind | None, bodies: list[bytes]
) -> None:
    entry = None if kind is None else entry_of(kind, "bob", "a password that nobody guesses")
    server = ClientAuthentication(method, "bob", entry, keyring())
    server.request()
    severities = {"FATAL"}
    for body in bodies:
        try:
            server.receive(body)
        except PgError as error:
            severities.add(error.severity)
        assert not server.done
    assert severities == {"FATAL"}


@given(
    credentials=st.sampled_from(
        [
            Credentials(),
            Credentials("secret"),
            credentials_of(entry_of(PasswordKind.MD5, "bob", "secret")),
            Credentials(keys=derive(b"secret", b"salt", 2)),
        ]
    ),
    bodies=st.lists(
        st.tuples(
            st.integers(-1, 13),
            st.one_of(
                st.binary(max_size=40),
                st.lists(
                    st.sampled_from([b"SCRAM-SHA-256\0", b"\0", b"r=fix", b",s=c2FsdA==", b",i=2"])
                ).map(b"".join),
                st.just(b"r=fixed,s=c2FsdA==,i=2"),
                st.just(b"SCRAM-SHA-256\0\0"),
            ),
        ).map(lambda parts: parts[0].to_bytes(4, "big", signed=True) + parts[1]),
        max_size=5,
    ),
)
def test_no_bytes_of_a_server_raise_anything_but_a_fatal(
    credentials: Credentials, bodies: list[bytes]
) -> None:
    client = ServerAuthentication("bob", credentials, keyring(), nonce=b"fix")
    severities = {"FATAL"}
    for body in bodies:
        try:
            answer = client.receive(body)
        except PgError as error:
            severities.add(error.severity)
            break
        if answer is not None:
            assert write.frame(answer[0], *frames(answer)) == answer
    assert severities == {"FATAL"}
