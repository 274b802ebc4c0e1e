"""Sizes, limits and other proxies that contradict each other."""

from pathlib import Path

import pytest

from pgproxy.config import LimitEntry, Limits, load
from pgproxy.errors import ConfigError

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("size = 2\nmin_size = 3", ["pool.min_size: 3 is more than pool.size = 2"]),
        (
            "min_size = 3\nmax_backend_connections = 2\nguaranteed_size = 4",
            [
                "pool.min_size: 3 is more than pool.max_backend_connections = 2",
                "pool.guaranteed_size: 4 is more than pool.max_backend_connections = 2",
            ],
        ),
        ("max_user_connections = 3\nusers.u = { min_size = 2, max_connections = 0 }", []),
        (
            "min_size = 3\nusers.u = { max_connections = 2, size = 2 }",
            [
                "pool.users.u.size: 2 is less than pool.min_size = 3",
                "pool.users.u.max_connections: 2 is less than pool.min_size = 3",
            ],
        ),
        (
            "max_database_connections = 2\ndatabases.d = { guaranteed_size = 3 }",
            ["pool.databases.d.guaranteed_size: 3 is more than pool.max_database_connections = 2"],
        ),
    ],
)
def test_sizes_that_cannot_be_reached(path: Path, text: str, faults: list[str]) -> None:
    path.write_text(
        f'[auth]\nmethod = "trust"\n[discovery]\nbackends = [{{ host = "a" }}]\n[pool]\n{text}\n'
    )
    if not faults:
        load(path, {})
        return
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.faults == [f"{path}: {fault}" for fault in faults]


def test_a_weight_is_of_both_user_and_database() -> None:
    limits = Limits(
        users={"reports": LimitEntry(weight=2)}, databases={"shop": LimitEntry(weight=3)}
    )
    pairs = [("shop", "reports"), ("shop", "web"), ("other", "reports"), ("other", "web")]
    assert [limits.weight(*pair) for pair in pairs] == [6, 3, 2, 1]


@pytest.mark.parametrize(
    ("text", "ceiling"),
    [
        ("[pool]\nsize = 7\n[limits]\n", 7),
        ("[limits]\nmax_concurrent = 9\n", 9),
        ("[limits]\nmax_concurrent_per_backend = 30\n", 30),
        ("[limits]\nmax_concurrent = 9\nmax_concurrent_per_backend = 8\n", 8),
        ("[limits]\nmax_concurrent = 9\nmax_concurrent_per_backend = 30\n", 9),
    ],
)
def test_the_floor_of_a_learnt_limit_is_no_more_than_its_cap(
    path: Path, text: str, ceiling: int
) -> None:
    # Variables for the backend and the log-in, so that the sections above stay the last ones.
    environ = {"PGPROXY_DISCOVERY__BACKENDS": '[{"host": "db"}]', "PGPROXY_AUTH__METHOD": "trust"}
    path.write_text(f"{text}adaptive = true\nadaptive_floor = {ceiling}\n")
    config = load(path, environ)
    assert config.max_running_per_backend == ceiling
    path.write_text(f"{text}adaptive = true\nadaptive_floor = {ceiling + 1}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, environ)
    [fault] = caught.value.faults
    assert fault.startswith(f"{path}: limits.adaptive_floor: {ceiling + 1} is more than the ")
    assert fault.endswith(f"accepted: 1 to {ceiling}")
    path.write_text(f"{text}adaptive_floor = {ceiling + 1}\n")
    assert not load(path, environ).limits.adaptive


STATIC = '[peers]\nstatic = ["a:1"]\n'


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (STATIC, []),
        ('[peers]\ndns = "pgproxy-peers:9930"\n[pool]\ncluster_budget = true\n', []),
        ('[peers]\nselector = "app=pgproxy"\nnamespace = "n"\nport = "http"\n', []),
        (
            STATIC + 'dns = "b:2"\nselector = "app=p"',
            [
                "peers.dns: and static both say who the others are; keep one",
                "peers.selector: and static both say who the others are; keep one",
            ],
        ),
        (
            "[pool]\ncluster_budget = true",
            [
                "pool.cluster_budget: needs to know the other proxies; accepted with one of"
                " peers.selector, peers.dns, peers.static"
            ],
        ),
        (
            '[peers]\nselector = " "',
            ["peers.selector: is blank, and would take every pod; accepted: the proxy's own"],
        ),
        (
            '[peers]\nselector = "app=p"\n[http]\nport = 0',
            ["peers.port: is needed with http.port = 0: the others' is not known"],
        ),
        (
            STATIC + 'namespace = "n"\nport = 1',
            [
                "peers.namespace: is that of pods; set peers.selector too",
                "peers.port: is that of pods; set peers.selector too",
            ],
        ),
        (
            STATIC + "[listen]\nworkers = 2\nmax_clients = 60001",
            [
                "listen.max_clients: with [peers] and listen.workers above 1 cancel keys tell 60000"
                " clients of each worker apart; accepted: 1 to 60000"
            ],
        ),
        (
            '[peers]\nstatic = ["a"]',
            [
                'peers.static[0]: "a" is not accepted; accepted: a list of HOST:PORT, of another'
                " proxy's [http]; an IPv6 address in brackets"
            ],
        ),
        (
            '[peers]\nstatic = [""]',
            ['peers.static: "" is no address; accepted: a list of HOST:PORT'],
        ),
        (
            '[peers]\ndns = "fd00::1:5"',
            [
                'peers.dns: "fd00::1:5" is not accepted; accepted: "" for none, or HOST:PORT, of'
                " another proxy's [http]; an IPv6 address in brackets"
            ],
        ),
    ],
)
def test_who_the_other_proxies_are(path: Path, text: str, faults: list[str]) -> None:
    head = '[auth]\nmethod = "trust"\n[[discovery.backends]]\nhost = "db"\n'
    if not faults:
        path.write_text(head + text)
        assert load(path, {}).peers.are_known
        return
    path.write_text(head + text)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.faults == [f"{path}: {fault}" for fault in faults]
