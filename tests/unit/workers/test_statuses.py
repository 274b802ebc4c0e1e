"""/status of several workers as one proxy's."""

from typing import Any

from pgproxy.workers.statuses import merge


def one(**values: Any) -> dict[str, Any]:
    pool = {"backend": "b", "database": "d", "user": "u", "idle": 1, "size": 5}
    query = {"id": "q", "query": "SELECT ?", "primary": 1, "seconds": 0.5, "reason": "read"}
    return {
        "version": "1",
        "clients": 2,
        "replication_clients": 1,
        "drain_forced": 0,
        "drain_clients": {"idle": 1},
        "statements": {"replica read": 3},
        "running": {"waiting": 2, "total": {"running": 1, "limit": 8}},
        "topology": [{"name": "b"}],
        "pools": [pool],
        "queries": [query],
    } | values


def test_counts_are_added_up_and_the_world_is_told_once() -> None:
    found = merge([one(), one(statements={"replica read": 1, "primary write": 2})])
    assert (found["version"], found["clients"], found["replication_clients"]) == ("1", 4, 2)
    assert found["statements"] == {"replica read": 4, "primary write": 2}
    assert found["running"] == {"waiting": 4, "total": {"running": 2, "limit": 8}}
    assert found["topology"] == [{"name": "b"}]
    [pool] = found["pools"]
    assert (pool["idle"], pool["size"], pool["user"]) == (2, 5, "u")
    [query] = found["queries"]
    assert (query["primary"], query["seconds"], query["query"]) == (2, 1.0, "SELECT ?")


def test_the_heaviest_query_of_all_is_first() -> None:
    light = {"id": "l", "query": "x", "seconds": 0.7}
    found = merge([one(), one(queries=[light]), one()])
    assert [query["id"] for query in found["queries"]] == ["q", "l"]


def test_without_workers_there_is_nothing() -> None:
    assert merge([]) == {}
