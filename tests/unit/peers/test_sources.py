"""What the configuration says of where the other proxies are."""

import pytest

from pgproxy.config import Config, Peers
from pgproxy.peers.sources import Dns, Pods, Static, source_of
from pgproxy.peers.word import Address


@pytest.mark.parametrize(
    ("settings", "kind", "lists_all"),
    [
        (Peers(static=("a:1",)), Static, False),
        (Peers(dns="a:1"), Dns, False),
        (Peers(dns="_pgproxy._tcp.a:1"), Dns, False),
        (Peers(selector="app=p"), Pods, True),
    ],
)
def test_the_configuration_says_where_they_are(
    settings: Peers, kind: type, lists_all: bool
) -> None:
    source = source_of(Config(peers=settings), lambda _addresses: None)
    assert isinstance(source, kind)
    assert source.lists_all is lists_all


@pytest.mark.parametrize("host", ["10.0.0.1", "[fd00::1]"])
async def test_what_is_an_address_already_nobody_is_asked_for(host: str) -> None:
    listed: list[Address] = []
    source = source_of(Config(peers=Peers(dns=f"{host}:9930")), listed.extend)
    await source.run()
    assert [str(address) for address in listed] == [f"{host}:9930"]
