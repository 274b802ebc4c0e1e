"""`discovery.mode = "dns"` and a real nameserver: records that change, and all that can go wrong."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from pgproxy import config
from pgproxy.topology.dns import Dns
from pgproxy.topology.fusion import fuse
from pgproxy.topology.model import Backend, Probe, Topology
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


async def test_names_are_searched_as_the_system_does(
    nameserver: Nameserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a pod, where the namespace's domain is put behind them."""
    import dns.asyncresolver
    import dns.resolver

    made = dns.asyncresolver.Resolver

    def make(configure: bool = True) -> dns.asyncresolver.Resolver:
        assert configure
        resolver = made(configure=False)
        resolver.read_resolv_conf(str(tmp_path / "resolv.conf"))
        resolver.port = nameserver.port
        return resolver

    monkeypatch.setattr(dns.asyncresolver, "Resolver", make)
    async with watching(nameserver, "pg", nameservers=()) as watch:
        await watch.lookups("configuration")
        text = "nameserver 127.0.0.1\nsearch nowhere.test test\noptions ndots:5\n"
        (tmp_path / "resolv.conf").write_text(text)
        await watch.source.synced.wait()
        assert watch.used == ALL


async def test_who_has_no_primary_asks_sooner(nameserver: Nameserver) -> None:
    async with watching(nameserver, NAME, min_ttl=600.0, max_ttl=600.0) as watch:
        await watch.source.synced.wait()
        nameserver.addresses(NAME, "127.0.0.1")
        watch.source.look_again()
        await until(lambda: watch.used == ALL[:1])
