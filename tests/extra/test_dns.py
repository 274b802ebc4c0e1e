"""`discovery.mode = "dns"` and a real nameserver: records that change, and all that can go wrong."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import dns.asyncresolver
import dns.message
import dns.resolver
import pytest
from structlog.testing import capture_logs

from pgproxy import config
from pgproxy.peers import sources
from pgproxy.peers.word import Address
from pgproxy.topology import departures
from pgproxy.topology.dns import Dns
from pgproxy.topology.fusion import fuse
from pgproxy.topology.model import Backend, Probe, Topology
from pgproxy.topology.records import MOST
from tests.support.nameserver import MissingNameserverError, Nameserver

NAME: Final = "pg.test"
SERVICE: Final = "_postgresql._tcp.test"


class Watch:
    """A source at work, and what it has told."""

    def __init__(self, settings: config.Dns) -> None:
        self.topology = Topology(0, ())
        self.told: Final[list[tuple[Backend, ...]]] = []
        self.source: Final = Dns(settings, self.told.append, lambda: self.topology)

    @property
    def status(self) -> dict[str, Any]:
        return json.loads(json.dumps(self.source.status()))  # type: ignore[no-any-return]

    @property
    def used(self) -> list[str]:
        """Those that are not about to leave."""
        return [backend.name for backend in self.source.backends if not backend.leaving]

    async def lookups(self, outcome: str, count: int = 2) -> None:
        """Wait until so many further questions have ended so."""
        wanted = self._lookups(outcome) + count
        await until(lambda: self._lookups(outcome) >= wanted)

    def _lookups(self, outcome: str) -> int:
        return sum(count for (_, one), count in self.source.lookups.items() if one == outcome)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what happens in between is not told
        await asyncio.sleep(0.005)


@pytest.fixture(scope="module")
def running() -> Iterator[Nameserver]:
    try:
        server = Nameserver.start()
    except MissingNameserverError as missing:
        pytest.fail(str(missing))
    with server:
        yield server


@pytest.fixture
def nameserver(running: Nameserver) -> Nameserver:
    running.addresses(NAME, "127.0.0.1", "127.0.0.2", "fd00::1")
    return running


@asynccontextmanager
async def watching(nameserver: Nameserver, *names: str, **settings: Any) -> AsyncIterator[Watch]:
    chosen = {"nameservers": (nameserver.address,), "min_ttl": 0.05, "max_ttl": 0.2, **settings}
    watch = Watch(config.Dns(names=names, **chosen))
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.source.run())
        yield watch
        await watch.source.close()


ALL: Final = ["127.0.0.1:5432", "127.0.0.2:5432", "[fd00::1]:5432"]


async def test_records_that_change(nameserver: Nameserver) -> None:
    async with watching(nameserver, NAME) as watch:
        await watch.source.synced.wait()
        assert watch.used == ALL
        assert {backend.role for backend in watch.source.backends} == {"auto"}
        nameserver.addresses(NAME, "127.0.0.2", "127.0.0.3", "fd00::1")
        await until(lambda: watch.used == ["127.0.0.2:5432", "127.0.0.3:5432", "[fd00::1]:5432"])
        assert watch.status["leaving"] == ["127.0.0.1:5432"]
        assert watch.source.age() < 5
        nameserver.addresses(NAME, "127.0.0.1", "127.0.0.2", "fd00::1")
        await until(lambda: watch.used[:3] == ALL)
        assert watch.status["leaving"] == ["127.0.0.3:5432"]


@pytest.mark.parametrize(("family", "count"), [("ipv4", 2), ("ipv6", 1)])
async def test_one_family_alone(nameserver: Nameserver, family: str, count: int) -> None:
    async with watching(nameserver, NAME, family=family) as watch:
        await watch.source.synced.wait()
        assert len(watch.used) == count


async def test_the_primary_stays_without_a_record_until_another_leads(
    nameserver: Nameserver,
) -> None:
    async with watching(nameserver, NAME, family="ipv4") as watch:
        await watch.source.synced.wait()
        first, second = ALL[:2]

        def probed(**timelines: int) -> Topology:
            told = {first: timelines["first"], second: timelines["second"]}
            probes = {
                name: Probe(True, in_recovery=line < 0, timeline=abs(line), system_identifier=7)
                for name, line in told.items()
            }
            return fuse(watch.source.backends, probes, watch.topology)

        watch.topology = probed(first=1, second=-1)
        nameserver.addresses(NAME, "127.0.0.2")
        await watch.lookups("ok", 4)
        assert sorted(watch.used) == [first, second]
        watch.topology = probed(first=1, second=2)
        await until(lambda: watch.used == [second])


async def test_trouble_changes_nothing(nameserver: Nameserver) -> None:
    async with watching(nameserver, NAME, timeout=0.3) as watch:
        await watch.source.synced.wait()
        nameserver.freeze()
        await watch.lookups("timeout")
        nameserver.thaw()
        await watch.lookups("ok")
        nameserver.addresses(NAME)  # no such name
        await watch.lookups("nxdomain")
        assert "does not exist" in watch.status["failing"][f"A {NAME}"]
        nameserver.stop()
        await watch.lookups("timeout")
        nameserver.run()
        assert watch.told == [watch.source.backends]
        assert watch.used == ALL
        nameserver.addresses(NAME, "127.0.0.1")
        await until(lambda: watch.used == ALL[:1])
        assert watch.status["failing"] == {}


async def test_a_nameserver_that_refuses_and_another_that_does_not(nameserver: Nameserver) -> None:
    async with watching(nameserver, "pg.example.org") as watch:
        await watch.lookups("failed")
        assert "REFUSED" in watch.status["failing"]["A pg.example.org"]
        assert not watch.source.synced.is_set()
        assert watch.status["last_contact_seconds"] is None
    # The first one is silent, or refuses the connection.
    servers = ("127.0.0.1:1", nameserver.address)
    async with watching(nameserver, NAME, nameservers=servers, timeout=5.0) as watch:
        await watch.source.synced.wait()
        assert watch.used == ALL


async def test_the_first_list_is_whole_or_waited_for(nameserver: Nameserver) -> None:
    """The one that is not found at once may be the primary, and the other one a former one."""
    async with watching(nameserver, NAME, "pg.example.org", family="ipv4") as watch:
        await watch.source.synced.wait()
        assert watch.source.lookups[("A", "failed")] == 3
        assert watch.used == ALL[:2]
        await watch.lookups("failed")
        assert watch.told == [watch.source.backends]


async def test_a_third_nameserver_has_its_turn(nameserver: Nameserver) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(2)]
        for one in silent:
            one.bind(("127.0.0.1", 0))
        servers = [f"127.0.0.1:{one.getsockname()[1]}" for one in silent]
        settings = {"nameservers": (*servers, nameserver.address), "timeout": 3.0}
        async with watching(nameserver, NAME, **settings) as watch:
            await watch.source.synced.wait()
            assert watch.used == ALL


async def test_of_several_names_one_that_is_gone_takes_its_servers_along(
    nameserver: Nameserver,
) -> None:
    nameserver.addresses("other.test", "127.0.0.9")
    async with watching(nameserver, NAME, "other.test") as watch:
        await watch.source.synced.wait()
        assert watch.used == [*ALL[:2], "127.0.0.9:5432", ALL[2]]
        nameserver.addresses("other.test")
        await until(lambda: watch.used == ALL)


async def test_services_tell_the_ports_too(nameserver: Nameserver) -> None:
    nameserver.addresses("other.test", "127.0.0.9")
    nameserver.services(SERVICE, (NAME, 7000), ("other.test", 7001))
    async with watching(nameserver, SERVICE, family="ipv4") as watch:
        await until(lambda: len(watch.used) == 3)
        assert watch.used == ["127.0.0.1:7000", "127.0.0.2:7000", "127.0.0.9:7001"]
        nameserver.services(SERVICE, ("other.test", 7002))
        await until(lambda: watch.used == ["127.0.0.9:7002"])


async def test_more_than_a_datagram_holds_comes_over_tcp(nameserver: Nameserver) -> None:
    addresses = [f"127.1.{number // 200}.{number % 200 + 1}" for number in range(400)]
    nameserver.addresses("many.test", *addresses)
    async with watching(nameserver, "many.test") as watch:
        await watch.source.synced.wait()
        assert len(watch.used) == 400


async def test_more_than_a_cluster_can_have_is_not_taken(nameserver: Nameserver) -> None:
    addresses = [f"127.2.{number // 200}.{number % 200 + 1}" for number in range(MOST + 7)]
    nameserver.addresses("many.test", *addresses)
    with capture_logs() as logs:
        async with watching(nameserver, "many.test") as watch:
            await watch.lookups("ok", 3)  # whose records come in any order
            assert watch.used == [f"{address}:5432" for address in sorted(addresses)[:MOST]]
            assert len(watch.told) == 1
    told = [line for line in logs if line["event"] == "dns_too_many"]
    assert [(line["question"], line["records"]) for line in told] == [("A many.test", MOST + 7)]


@pytest.fixture
def system(
    nameserver: Nameserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Writes the /etc/resolv.conf by which the system's names are looked for; at first there is
    none."""
    made = dns.asyncresolver.Resolver
    path = tmp_path / "resolv.conf"

    def make(configure: bool = True) -> dns.asyncresolver.Resolver:
        assert configure
        resolver = made(configure=False)
        resolver.read_resolv_conf(str(path))
        resolver.port = nameserver.port
        return resolver

    monkeypatch.setattr(dns.asyncresolver, "Resolver", make)

    def write(lines: str) -> None:
        path.write_text(f"nameserver 127.0.0.1\n{lines}")

    return write


async def test_names_are_searched_as_the_system_does(
    nameserver: Nameserver, system: Callable[[str], None]
) -> None:
    """As in a pod, where the namespace's domain is put behind them."""
    async with watching(nameserver, "pg", nameservers=()) as watch:
        await watch.lookups("configuration")
        system("search nowhere.test test\noptions ndots:5\n")
        await watch.source.synced.wait()
        assert watch.used == ALL


async def test_other_proxies_are_found_by_the_same_records(
    nameserver: Nameserver, system: Callable[[str], None]
) -> None:
    listed: list[list[str]] = []
    name = Address("peers.test", 9930)
    source = sources.Dns(name, 0.02, lambda found: listed.append([str(one) for one in found]))
    nameserver.addresses("peers.test", "127.0.0.2", "127.0.0.1", "fd00::1")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(source.run())
        await until(lambda: bool(source.status()["failing"]))
        assert not listed  # what is not known is not nobody
        system("")
        await until(lambda: bool(listed))
        all_of_them = ["127.0.0.1:9930", "127.0.0.2:9930", "[fd00::1]:9930"]
        assert listed[0] == all_of_them
        nameserver.freeze()
        await until(lambda: bool(source.status()["failing"]))
        nameserver.thaw()
        await until(lambda: not source.status()["failing"])
        assert listed[-1] == all_of_them
        nameserver.addresses("peers.test", "127.0.0.2")
        await until(lambda: listed[-1] == ["127.0.0.2:9930"])
        nameserver.addresses("peers.test")
        await until(lambda: listed[-1] == [])
        running.cancel()


async def test_other_proxies_may_be_services(
    nameserver: Nameserver, system: Callable[[str], None]
) -> None:
    listed: list[list[Address]] = []
    system("")
    nameserver.services("_pgproxy._tcp.test", (NAME, 7000))
    name = Address("_pgproxy._tcp.test", 9930)
    source = sources.Dns(name, 0.02, lambda found: listed.append(list(found)))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(source.run())
        await until(lambda: bool(listed) and len(listed[-1]) == 3)
        assert {address.port for address in listed[-1]} == {7000}
        running.cancel()


class Deaf(asyncio.DatagramProtocol):
    """Passes questions on to a nameserver, and none for addresses of IPv6 while it is `deaf`."""

    def __init__(self, nameserver: Nameserver) -> None:
        self.deaf = False
        self._nameserver: Final = nameserver
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        if self.deaf and question.question[0].rdtype == dns.rdatatype.AAAA:
            return
        with socket.socket(type=socket.SOCK_DGRAM) as asking:
            asking.settimeout(5)
            asking.sendto(data, ("127.0.0.1", self._nameserver.port))
            answer = asking.recv(4096)
        assert self._transport is not None
        self._transport.sendto(answer, addr)


async def test_a_family_that_is_silent_does_not_hold_up_the_other(nameserver: Nameserver) -> None:
    loop = asyncio.get_running_loop()
    transport, deaf = await loop.create_datagram_endpoint(
        lambda: Deaf(nameserver), local_addr=("127.0.0.1", 0)
    )
    server = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    try:
        async with watching(nameserver, NAME, nameservers=(server,), timeout=2.0) as watch:
            await watch.source.synced.wait()
            deaf.deaf = True
            await watch.lookups("timeout", 1)
            question = f"AAAA {NAME}"
            for last in range(3, 6):
                nameserver.addresses(NAME, f"127.0.0.{last}", "fd00::2")
                # What it gave last stays.
                await until(lambda last=last: watch.used == [f"127.0.0.{last}:5432", ALL[2]])  # type: ignore[misc]
                assert "nor the last time" in watch.status["failing"][question]
            deaf.deaf = False
            await until(lambda: watch.used == ["127.0.0.5:5432", "[fd00::2]:5432"])
            assert watch.status["failing"] == {}
    finally:
        transport.close()


async def test_a_primary_without_a_record_that_has_crashed_goes(
    nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if there is no record at all any more, which is not believed."""
    monkeypatch.setattr(departures, "LINGER", 0.3)
    async with watching(nameserver, NAME, family="ipv4") as watch:
        await watch.source.synced.wait()
        first, second = ALL[:2]
        replica = Probe(True, in_recovery=True, timeline=1, system_identifier=7)
        leads = Probe(True, timeline=1, system_identifier=7)
        watch.topology = fuse(watch.source.backends, {first: leads, second: replica})
        nameserver.addresses(NAME, "127.0.0.2")
        await until(lambda: [backend.name for backend in watch.source.backends] == [second, first])
        watch.topology = fuse(watch.source.backends, {second: replica}, watch.topology)
        nameserver.addresses(NAME)
        await until(lambda: watch.status["leaving"] == [first])
        await until(lambda: [backend.name for backend in watch.source.backends] == [second])
        assert watch.used == [second]


async def test_who_has_no_primary_asks_sooner(nameserver: Nameserver) -> None:
    async with watching(nameserver, NAME, min_ttl=600.0, max_ttl=600.0) as watch:
        await watch.source.synced.wait()
        nameserver.addresses(NAME, "127.0.0.1")
        watch.source.look_again()
        await until(lambda: watch.used == ALL[:1])
