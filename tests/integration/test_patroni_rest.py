"""`discovery.mode = "patroni"` and members that answer otherwise than they should, or not at all."""

import asyncio
import itertools
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from structlog.testing import capture_logs

from pgproxy import config
from pgproxy.topology import departures, patroni
from pgproxy.topology import members as patroni_members
from pgproxy.topology.fusion import fuse
from pgproxy.topology.model import Backend, Probe, Topology
from pgproxy.topology.patroni import Patroni
from tests.fakes.patroni_members import FakeMembers

pytestmark = pytest.mark.once

INTERVAL: Final = 0.05


class Watch:
    """A source at work, and what it has told."""

    def __init__(self, settings: config.Patroni) -> None:
        self.topology = Topology(0, ())
        self.told: Final[list[dict[str, str]]] = []
        self.source: Final = Patroni(settings, self._take, lambda: self.topology)

    def _take(self, backends: tuple[Backend, ...]) -> None:
        self.told.append({backend.name: backend.role for backend in backends})

    @property
    def status(self) -> dict[str, Any]:
        return json.loads(json.dumps(self.source.status()))  # type: ignore[no-any-return]

    def backend(self, name: str) -> Backend:
        (found,) = [one for one in self.source.backends if one.name == name]
        return found

    def probed(self, **timelines: int) -> None:
        """From now on the servers are known to be so; negative: in recovery."""
        self.topology = fuse(
            self.source.backends,
            {
                name: Probe(
                    True, in_recovery=timeline < 0, timeline=abs(timeline), system_identifier=7
                )
                for name, timeline in timelines.items()
            },
            self.topology,
        )

    async def rounds(self, count: int = 3) -> None:
        """Wait until so many further requests have ended."""
        wanted = sum(self.source.requests.values()) + count
        await until(lambda: sum(self.source.requests.values()) >= wanted)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what happens in between is not told
        await asyncio.sleep(0.005)


@asynccontextmanager
async def watching(*urls: str, **settings: Any) -> AsyncIterator[Watch]:
    watch = Watch(config.Patroni(urls=urls, **{"interval": INTERVAL, "timeout": 5.0, **settings}))
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.source.run())
        yield watch
        await watch.source.close()


A_LEADS: Final = {"a": "primary", "b": "replica", "c": "replica"}
B_LEADS: Final = {"a": "replica", "b": "primary", "c": "replica"}
NOBODY_LEADS: Final = {"a": "auto", "b": "auto", "c": "auto"}


async def test_one_member_is_enough_and_then_the_leader_alone_is_asked() -> None:
    async with FakeMembers("abc") as members, watching(members["c"].url) as watch:
        await watch.source.synced.wait()
        assert watch.told == [A_LEADS]
        asked = members["c"].asked
        await watch.rounds(5)
        assert members["c"].asked == asked
        assert watch.told == [A_LEADS]
        assert watch.status["leader"] == "a"
        assert watch.status["roles_by"] == "leader"
        assert watch.status["scope"] == "demo"
        assert watch.source.age() < 5
        assert dict(watch.source.counts()["pgproxy_patroni_requests_total"])[("ok",)] > 5


async def test_the_lock_moves() -> None:
    async with FakeMembers("abc") as members, watching(members["a"].url) as watch:
        await watch.source.synced.wait()
        members.leader = "b"
        await until(lambda: watch.told == [A_LEADS, B_LEADS])
        members.leader = ""
        await until(lambda: watch.told[-1] == NOBODY_LEADS)
        members.leader = "c"
        await until(lambda: watch.told[-1]["c"] == "primary")


async def test_the_leader_dies_and_another_member_tells_of_its_successor() -> None:
    async with FakeMembers("abc") as members, watching(members["a"].url) as watch:
        await watch.source.synced.wait()
        await members["a"].stop()
        await until(lambda: watch.status["roles_by"] == "members")
        assert watch.told == [A_LEADS]
        members.leader, members.timeline = "b", 2
        await until(lambda: watch.told[-1] == B_LEADS)
        # The one that is gone leaves the list when its key expires: drained at first.
        del members.members["a"]
        await until(lambda: watch.backend("a").leaving)
        assert not watch.backend("b").leaving


async def test_a_stale_member_does_not_drop_the_primary() -> None:
    async with FakeMembers("abc") as members, watching(members["a"].url) as watch:
        await watch.source.synced.wait()
        stale = json.dumps(members.view()).encode()
        members.leader, members.timeline = "b", 2
        members["a"].said = stale
        # It is the leader that was asked, and says that it still is.
        watch.probed(a=1, b=2, c=-2)
        await until(lambda: watch.told[-1] == NOBODY_LEADS)
        watch.probed(a=1, b=2, c=-2)
        assert watch.topology.primary is not None
        assert watch.topology.primary.name == "b"
        # Nobody else is there to be asked.
        await members["b"].stop()
        await members["c"].stop()
        await watch.rounds(6)
        watch.probed(a=1, b=2, c=-2)
        assert watch.topology.primary.name == "b"
        # Its Patroni has its DCS again.
        members["a"].said = None
        await until(lambda: watch.told[-1] == B_LEADS)


async def test_the_primary_s_member_is_gone_and_it_is_not() -> None:
    async with FakeMembers("abc") as members, watching(members["b"].url) as watch:
        await watch.source.synced.wait()
        watch.probed(a=1, b=-1, c=-1)
        await members.members.pop("a").stop()
        await watch.rounds(9)
        assert not watch.backend("a").leaving
        members.leader, members.timeline = "b", 2
        watch.probed(a=1, b=2, c=-2)
        await until(lambda: watch.backend("a").leaving)


@pytest.mark.parametrize(
    ("status", "said", "outcome"),
    [
        (503, b"", "error"),
        (502, b"<html>", "error"),
        (401, b"no auth", "unauthorized"),
        (404, b"", "rejected"),
        (302, b"", "rejected"),
        (200, b"<html>", "garbled"),
        (200, b"{}", "garbled"),
        (200, b" " * (5 << 20), "garbled"),
        (200, b'{"members": [], "scope": "other"}', "garbled"),
    ],
)
async def test_bad_answers_change_nothing_and_are_counted(
    status: int, said: bytes, outcome: str
) -> None:
    async with FakeMembers("abc") as members, watching(members["a"].url) as watch:
        await watch.source.synced.wait()
        for member in members.members.values():
            member.status, member.said = status, said
            member.headers = {"Location": member.url} if status == 302 else {}
        await until(lambda: watch.source.requests.get(outcome, 0) >= 6)
        assert watch.told == [A_LEADS]
        assert watch.status["failing"] is True
        assert len(watch.status["silent"]) == 3
        for member in members.members.values():
            member.status, member.said = 200, None
        members.leader = "b"
        await until(lambda: watch.told[-1] == B_LEADS)
        await until(lambda: not watch.status["silent"])
        assert watch.status["failing"] is False


async def test_silence_is_waited_for_no_longer_than_the_time_limit() -> None:
    async with FakeMembers("abc") as members, watching(members["b"].url, timeout=0.3) as watch:
        await watch.source.synced.wait()
        members["a"].hangs = True
        members.leader = "b"
        # The others are asked at once, and the one that leads is enough.
        await until(lambda: watch.told[-1] == B_LEADS)
        for member in members.members.values():
            member.hangs = True
        await until(lambda: watch.source.requests.get("silent", 0) >= 6)
        assert watch.told == [A_LEADS, B_LEADS]
        assert watch.status["failing"] is True


async def test_who_was_silent_is_asked_and_not_waited_for_as_long_as_others_answer() -> None:
    async with FakeMembers("abc") as members, watching(members["b"].url, timeout=3) as watch:
        await watch.source.synced.wait()
        members["a"].hangs = True
        await until(lambda: watch.source.requests.get("silent", 0) == 1)
        asked = members["a"].asked
        await until(lambda: members["a"].asked >= asked + 5)
        assert watch.source.requests["silent"] == 1
        assert watch.status["roles_by"] == "members"
        members["a"].hangs = False
        await until(lambda: watch.status["roles_by"] == "leader")
        assert watch.told == [A_LEADS]


async def test_nobody_is_there_at_first() -> None:
    async with FakeMembers("abc") as members:
        url = members["a"].url
        await members["a"].stop()
        async with watching(url) as watch:
            await until(lambda: watch.source.requests.get("unreachable", 0) >= 2)
            assert not watch.source.synced.is_set()
            assert watch.status["last_contact_seconds"] is None
            await members["a"].start()
            await watch.source.synced.wait()
            assert watch.told == [A_LEADS]


async def test_a_round_ends_although_every_answer_names_another_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeMembers("a") as members:
        number = itertools.count()

        def view() -> dict[str, Any]:
            url = members["a"].url.replace("://", f"://{next(number)}@")
            entry = {"name": "b", "role": "replica", "host": "127.0.0.1", "api_url": url}
            return {"members": [entry], "scope": "demo"}

        monkeypatch.setattr(members, "view", view)
        async with watching(members["a"].url) as watch:
            await watch.source.synced.wait()
            assert watch.told == [{"b": "auto"}]


async def test_a_list_without_members_is_not_believed() -> None:
    async with FakeMembers("abc") as members, watching(members["a"].url) as watch:
        await watch.source.synced.wait()
        for member in members.members.values():
            member.said = b'{"members": [], "scope": "demo"}'
        await until(lambda: watch.told == [A_LEADS, NOBODY_LEADS])
        await watch.rounds(9)
        assert len(watch.source.backends) == 3
        assert not any(backend.leaving for backend in watch.source.backends)
        # Nor one whose members have lost their addresses.
        members.changes = {name: {"host": None} for name in "abc"}
        for member in members.members.values():
            member.said = None
        await watch.rounds(9)
        assert watch.told == [A_LEADS, NOBODY_LEADS]


@pytest.mark.parametrize("said", [b"", b'{"members": [], "scope": "demo"}'])
async def test_who_is_missing_goes_although_nobody_tells_more(
    monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(departures, "LINGER", 0.3)
    async with FakeMembers("abc") as members, watching(members["a"].url) as watch:
        await watch.source.synced.wait()
        members.changes = {"c": {"host": None}}
        await until(lambda: watch.backend("c").leaving)
        for member in members.members.values():
            member.said = said
        await until(lambda: [backend.name for backend in watch.source.backends] == ["a", "b"])


async def test_too_many_members_are_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patroni, "MOST", 2)
    monkeypatch.setattr(patroni_members, "MOST", 2)
    with capture_logs() as logs:
        async with FakeMembers("abc") as members, watching(members["a"].url) as watch:
            await watch.source.synced.wait()
            await watch.rounds(9)
            assert watch.told == [{"a": "primary", "b": "replica"}]
    told = [line for line in logs if line["event"] == "patroni_too_many"]
    assert [(line["members"], line["taken"]) for line in told] == [(3, 2)]


async def test_another_cluster_s_members_are_not_taken() -> None:
    async with FakeMembers("abc") as members, watching(members["a"].url, scope="main") as watch:
        await until(lambda: watch.source.requests.get("garbled", 0) >= 2)
        assert 'the cluster "demo", not "main"' in watch.status["silent"][members["a"].url]
        assert not watch.source.synced.is_set()


async def test_what_a_member_is_tagged_with() -> None:
    async with FakeMembers("abc") as members:
        members.changes = {"b": {"tags": {"noloadbalance": True}}, "c": {"state": "starting"}}
        async with watching(members["a"].url) as watch:
            await watch.source.synced.wait()
            assert [watch.backend(name).ready for name in "abc"] == [True, False, False]
            assert watch.status["not_serving"] == {
                "b": "takes no reads: tagged noloadbalance",
                "c": "takes no reads: its state is starting",
            }
            members.changes = {}
            await until(lambda: watch.backend("b").ready and watch.backend("c").ready)


async def test_who_has_no_primary_asks_sooner() -> None:
    async with FakeMembers("abc") as members, watching(members["a"].url, interval=600) as watch:
        await watch.source.synced.wait()
        members.leader = "b"
        watch.source.look_again()
        await until(lambda: watch.told[-1] == B_LEADS)


# --- TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def server_side(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_tls_with_the_authority_of_the_configuration(
    authority: trustme.CA, ca_file: Path
) -> None:
    async with (
        FakeMembers("abc", tls=server_side(authority)) as members,
        watching(members["a"].url, ca_file=ca_file) as watch,
    ):
        await watch.source.synced.wait()
        assert watch.status["roles_by"] == "leader"


@pytest.mark.parametrize("name", ["127.0.0.1", "127.0.0.2"])
async def test_a_certificate_that_is_not_verified(authority: trustme.CA, name: str) -> None:
    async with FakeMembers("abc", tls=server_side(authority, name)) as members:
        async with watching(members["a"].url) as watch:
            await until(lambda: watch.source.requests.get("tls", 0) >= 2)
            assert not watch.source.synced.is_set()
        async with watching(members["a"].url, verify=False) as watch:
            await watch.source.synced.wait()


async def test_an_authority_that_is_put_right_is_read_anew(
    authority: trustme.CA, ca_file: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(ca_file)
    async with (
        FakeMembers("abc", tls=server_side(authority)) as members,
        watching(members["a"].url, ca_file=ca_file) as watch,
    ):
        await until(lambda: watch.source.requests.get("tls", 0) >= 2)
        authority.cert_pem.write_to_path(ca_file)
        await watch.source.synced.wait()


async def test_the_proxy_s_own_certificate(
    authority: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    context = server_side(authority)
    context.load_verify_locations(ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    own = trustme.CA().issue_cert("pgproxy.test")
    cert_file, key_file = tmp_path / "own.crt", tmp_path / "own.key"
    own.cert_chain_pems[0].write_to_path(cert_file)
    own.private_key_pem.write_to_path(key_file)
    async with FakeMembers("abc", tls=context) as members:
        async with watching(members["a"].url, ca_file=ca_file) as watch:
            await watch.rounds()
            assert not watch.source.synced.is_set()
        chosen = {"ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}
        async with watching(members["a"].url, **chosen) as watch:
            # One that is refused, and then put right.
            await watch.rounds()
            assert not watch.source.synced.is_set()
            own = authority.issue_cert("pgproxy.test")
            own.private_key_pem.write_to_path(key_file)
            own.cert_chain_pems[0].write_to_path(cert_file)
            await watch.source.synced.wait()


async def test_files_that_cannot_be_read(authority: trustme.CA, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    async with (
        FakeMembers("abc", tls=server_side(authority)) as members,
        watching(members["a"].url, ca_file=nowhere) as watch,
    ):
        await until(lambda: watch.source.requests.get("credentials", 0) >= 2)
        assert "No such file" in watch.status["silent"][members["a"].url]


_GET: Final = """
import asyncio, sys
from pgproxy import config
from pgproxy.topology.restapi import RestApi
settings = config.Patroni(cert_file=sys.argv[1], key_file=sys.argv[2])
asyncio.run(RestApi(settings).get("https://127.0.0.1:1"))
"""


def test_nobody_is_asked_for_the_password_of_a_key(tmp_path: Path) -> None:
    """OpenSSL would ask at the terminal, or read what it is given there, and all stand still."""
    own = trustme.CA().issue_cert("pgproxy.test")
    key = load_pem_private_key(own.private_key_pem.bytes(), None)
    (tmp_path / "own.crt").write_bytes(own.cert_chain_pems[0].bytes())
    (tmp_path / "own.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2"))
    )
    with subprocess.Popen(
        [sys.executable, "-c", _GET, tmp_path / "own.crt", tmp_path / "own.key"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            assert process.wait(30) == 1
        finally:
            process.kill()
        assert process.stderr is not None
        assert b"ApiError" in process.stderr.read()


async def test_it_ends_before_it_has_begun() -> None:
    watch = Watch(config.Patroni(urls=("http://127.0.0.1:1",)))
    await watch.source.close()
    await watch.source.run()
    assert watch.source.requests == {}
