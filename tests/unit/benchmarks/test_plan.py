from collections import Counter

from benchmarks import plan


def test_the_full_plan_holds_every_protocol_client_count_and_script() -> None:
    keys = {cell.key for cell in plan.full(1)}

    assert {"read-only/simple/1", "tpcb/prepared/64", "connect/simple/16"} <= keys
    assert {"bulk/select-million", "bulk/copy-out", "bulk/copy-in", "idle/5000"} <= keys
    assert len(keys) == len(plan.full(1)) == 23


def test_only_keeps_the_cells_that_one_of_the_patterns_is_found_in() -> None:
    kept = plan.only(plan.full(1), ["read-only/.*/64", "idle"])

    assert [cell.key for cell in kept] == [
        "read-only/simple/64",
        "read-only/extended/64",
        "read-only/prepared/64",
        "idle/5000",
    ]


def test_every_peer_is_first_equally_often_in_a_cell() -> None:
    turns = list(plan.turns(plan.quick(1), rounds=6, peers=3))
    first = Counter((turn.cell.key, turn.order[0]) for turn in turns)

    assert set(first.values()) == {2}
    assert all(sorted(turn.order) == [0, 1, 2] for turn in turns)


def test_idle_clients_are_measured_in_one_round_only() -> None:
    turns = list(plan.turns(plan.only(plan.full(1), ["idle"]), rounds=3, peers=2))

    assert len(turns) == 1
