from pgproxy import config
from pgproxy.topology.model import Backend
from pgproxy.topology.static import backends


def test_the_configured_backends_in_their_order() -> None:
    discovery = config.Discovery(
        backends=(
            config.Backend(host="db2", port=6000, role="replica", weight=3, zone="b", name="two"),
            config.Backend(host="db1"),
        )
    )
    assert backends(discovery) == (
        Backend("two", "db2", 6000, role="replica", weight=3, zone="b"),
        Backend("db1:5432", "db1", 5432, role="auto", weight=1, zone=""),
    )
