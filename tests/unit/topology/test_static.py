from pgproxy import config
from pgproxy.topology.model import Backend
from pgproxy.topology.static import Static, backends


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


async def test_it_tells_them_once_and_then_there_is_nothing_more() -> None:
    told: list[tuple[Backend, ...]] = []
    source = Static(config.Discovery(backends=(config.Backend(host="db1"),)), told.append)
    assert source.synced.is_set()
    await source.run()
    source.look_again()
    await source.close()
    assert told == [source.backends]
    assert (len(source.backends), source.age()) == (1, 0)
    assert (source.status(), source.counts()) == ({"mode": "static"}, {})
