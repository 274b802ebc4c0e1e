"""Answers of Patroni's members, those of real ones of three major versions first, and what follows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.topology.fusion import fuse
from pgproxy.topology.members import (
    MOST,
    Answer,
    Basis,
    Member,
    NoViewError,
    Verdict,
    View,
    backends_of,
    base_url,
    is_settled,
    judge,
    read_view,
    why_not,
)
from pgproxy.topology.model import Backend, Probe, Topology

ANSWERS: Final = Path(__file__).parent / "patroni"  # by version, as they came
NOTHING: Final = Topology(0, ())


def read(**answer: Any) -> View:
    return read_view(json.dumps(answer).encode(), "")


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "role": "replica", "state": "streaming", "host": f"h-{name}", **more}


def member(name: str, role: str = "replica", timeline: int = 1) -> Member:
    state = "running" if role == "leader" else "streaming"
    return Member(name, f"http://{name}:8008", f"h-{name}", 5432, role, state, timeline, True)


def view(leader: str, timeline: int = 1, names: str = "abc") -> View:
    return View(
        tuple(member(one, "leader" if one == leader else "replica", timeline) for one in names)
    )


def by(name: str, said: View) -> Answer:
    return Answer(f"http://{name}:8008", said)


def seen(timeline: int) -> Probe:
    """Negative: in recovery."""
    return Probe(True, in_recovery=timeline < 0, timeline=abs(timeline), system_identifier=7)


def servers(**timelines: int) -> Topology:
    backends = [Backend(name, f"h-{name}") for name in timelines]
    return fuse(
        backends,
        {name: seen(timeline) for name, timeline in timelines.items()},
    )


def stray(name: str, timeline: int, **others: int) -> Topology:
    """A server that takes writes although it is hinted to be a replica."""
    found = {name: timeline, **others}
    return fuse(
        [Backend(one, f"h-{one}", role="replica", hinted=True) for one in found],
        {one: seen(line) for one, line in found.items()},
    )


# --- one answer


def test_no_more_members_are_taken_than_a_cluster_can_have() -> None:
    names = [f"m{number:04}" for number in range(MOST + 3)]
    members = [entry(name) for name in reversed(names)]
    assert read(members=members[:MOST]).left_out == 0
    members[0]["role"] = "leader"  # the last by name
    taken = read(members=members)
    assert [member.name for member in taken.members] == [names[-1], *names[: MOST - 1]]
    assert taken.left_out == 3


@pytest.mark.parametrize("version", ["2.1.7", "3.3.6", "4.1.5"])
def test_a_real_answer(version: str) -> None:
    found = read_view((ANSWERS / f"{version}.json").read_bytes(), "demo")
    leader = found.leader
    assert leader is not None
    assert (leader.role, leader.state, leader.timeline) == ("leader", "running", 1)
    roles = {one.role for one in found.members if one is not leader}
    assert roles == {"sync_standby", "replica"}
    assert {one.timeline for one in found.members} == {1}
    assert all(base_url(one.url) == one.url for one in found.members)
    verdict = judge([Answer(leader.url, found)], NOTHING)
    assert (verdict.leader, verdict.basis) == (leader.name, Basis.LEADER)
    backends = backends_of(verdict)
    assert [one.name for one in backends] == ["m-0", "m-1", "m-2"]
    assert {one.role for one in backends if one.name != leader.name} == {"replica"}
    assert len({one.host for one in backends}) == 3
    assert len({one.port for one in backends}) == 1
    assert all(one.hinted and one.ready for one in backends)


@pytest.mark.parametrize("role", ["leader", "standby_leader", "master", "primary"])
def test_roles_that_lead(role: str) -> None:
    found = read(members=[entry("a", role=role), entry("b", role="sync_standby")]).leader
    assert found is not None
    assert found.name == "a"


@pytest.mark.parametrize("role", ["replica", "sync_standby", "quorum_standby", "new", None, 7])
def test_roles_that_do_not(role: object) -> None:
    assert read(members=[entry("a", role=role)]).leader is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"state": "running"}, ""),
        ({"state": "in archive recovery"}, ""),
        ({"tags": {"nofailover": True, "clonefrom": True}}, ""),
        ({"tags": {"noloadbalance": False}}, ""),
        ({"tags": None}, ""),
        ({"tags": {"noloadbalance": True}}, "takes no reads: tagged noloadbalance"),
        ({"state": "starting"}, "takes no reads: its state is starting"),
        ({"state": "start failed"}, "takes no reads: its state is start failed"),
        ({"state": "stopped"}, "takes no reads: its state is stopped"),
        ({"state": None}, "takes no reads: its state is not told"),
    ],
)
def test_who_takes_reads(changes: dict[str, object], reason: str) -> None:
    (found,) = read(members=[entry("a", **changes)]).members
    assert why_not(found) == reason
    (backend,) = backends_of(Verdict((found,), "", Basis.SERVERS))
    assert backend.ready == (reason == "")


@pytest.mark.parametrize(
    "changes",
    [
        {"host": None},
        {"host": ""},
        {"host": "\ud800"},
        {"port": 0},
        {"port": "5432"},
        {"port": True},
    ],
)
def test_a_member_without_an_address_is_no_backend_yet(changes: dict[str, object]) -> None:
    (found,) = read(members=[entry("a", **changes)]).members
    assert why_not(found) == "it has no address yet"
    assert backends_of(Verdict((found,), "", Basis.SERVERS)) == ()


def test_addresses() -> None:
    (found,) = read(members=[entry("a", host="[fd00::1]")]).members
    assert (found.host, found.port, found.timeline, found.url) == ("fd00::1", 5432, 0, "")
    assert base_url("https://10.0.0.1:8008/patroni") == "https://10.0.0.1:8008"
    assert base_url("10.0.0.1:8008") == ""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the answer is not JSON"),
        (b"<html>", "the answer is not JSON"),
        (b"[" * 100_000, "the answer is not JSON"),
        (b"\xff", "the answer is not JSON"),
        (b"[]", "the answer has no list of members"),
        (b"{}", "the answer has no list of members"),
        (b'{"members": null}', "the answer has no list of members"),
        *(
            (said, "a member has no name, or one that cannot be printed")
            for said in (
                b'{"members": [1]}',
                b'{"members": [{"name": ""}]}',
                b'{"members": [{"name": "a\\ud800"}]}',
                b'{"members": [{"name": "a\\nb"}]}',
            )
        ),
        (
            b'{"members": [{"name": "a", "role": "leader"}, {"name": "b", "role": "leader"}]}',
            "more than one member leads",
        ),
        (
            b'{"members": [], "scope": "other"}',
            'the answer is about the cluster "other", not "demo"',
        ),
    ],
)
def test_what_is_no_answer(body: bytes, reason: str) -> None:
    with pytest.raises(NoViewError) as caught:
        read_view(body, "demo")
    assert str(caught.value) == reason


def test_what_else_is_told() -> None:
    told = read_view(b'{"members": [], "scope": "demo", "pause": true}', "demo")
    assert (told.scope, told.is_paused, told.leader) == ("demo", True, None)
    assert read_view(b'{"members": []}', "demo").scope == ""  # Patroni 2


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
_entries = st.fixed_dictionaries(
    {"name": st.sampled_from("abc")},
    optional={
        key: _values | st.sampled_from(["leader", "replica", "running", 5432, {}])
        for key in ("role", "state", "host", "port", "api_url", "timeline", "tags")
    },
)


@given(st.lists(_entries, max_size=4), _values)
def test_whatever_is_answered_is_read_or_refused(members: list[Any], pause: object) -> None:
    try:
        found = read_view(json.dumps({"members": members, "pause": pause}).encode(), "")
    except NoViewError:
        return
    verdict = judge([Answer("http://a", found)], NOTHING)
    assert all(0 < one.port < 65536 and one.host for one in backends_of(verdict))


# --- several


def test_the_leader_s_own_word_settles_it() -> None:
    answers = [by("a", view("a"))]
    assert is_settled(answers, NOTHING)
    verdict = judge(answers, NOTHING)
    assert (verdict.leader, verdict.basis) == ("a", Basis.LEADER)
    roles = {one.name: one.role for one in backends_of(verdict)}
    assert roles == {"a": "primary", "b": "replica", "c": "replica"}


def test_who_leads_in_a_standby_cluster_is_no_replica_by_hint() -> None:
    told = View((replace(member("a"), role="standby_leader", state="streaming"), member("b")))
    (leader, other) = backends_of(judge([by("a", told)], NOTHING))
    assert (leader.role, leader.ready, other.role) == ("primary", True, "replica")


def test_a_stale_member_is_outvoted_by_the_leader() -> None:
    answers = [by("c", view("a", timeline=1))]
    assert not is_settled(answers, NOTHING)
    answers.append(by("b", view("b", timeline=2)))
    assert is_settled(answers, NOTHING)
    assert judge(answers, NOTHING).leader == "b"
    assert judge(answers[::-1], NOTHING).leader == "b"


def test_the_leader_is_silent_and_the_others_agree() -> None:
    answers = [by("b", view("a")), by("c", view("a"))]
    assert not is_settled(answers, NOTHING)
    verdict = judge(answers, servers(a=1, b=-1, c=-1))
    assert (verdict.leader, verdict.basis) == ("a", Basis.MEMBERS)


def test_the_leader_is_silent_and_the_others_do_not_agree() -> None:
    verdict = judge([by("b", view("a")), by("c", view("b"))], NOTHING)
    assert (verdict.leader, verdict.basis) == ("", Basis.SERVERS)
    assert {one.role for one in backends_of(verdict)} == {"auto"}


def test_two_that_believe_to_have_the_lock() -> None:
    answers = [by("a", view("a", 1)), by("b", view("b", 2))]
    assert not is_settled(answers, NOTHING)
    assert judge(answers, NOTHING).basis is Basis.SERVERS


def test_a_leader_that_the_others_know_to_be_yesterday_s() -> None:
    answers = [by("a", view("a", 1)), by("c", view("b", 2))]
    assert judge(answers, NOTHING).basis is Basis.SERVERS
    # The other way round the silent one is yesterday's.
    answers = [by("b", view("b", 2)), by("c", view("a", 1))]
    assert judge(answers, NOTHING).leader == "b"


def test_nobody_leads() -> None:
    verdict = judge([by("a", view("")), by("b", view(""))], servers(a=1, b=-1, c=-1))
    assert verdict.basis is Basis.SERVERS
    assert {one.role for one in backends_of(verdict)} == {"auto"}
    # One of them is behind, or ahead: it is the only word on it that there is.
    assert judge([by("b", view("")), by("c", view("a"))], NOTHING).leader == "a"


def test_the_primary_is_not_dropped_for_one_that_claims_an_older_timeline() -> None:
    verdict = judge([by("a", view("a", 1))], servers(a=1, b=2, c=-2))
    assert verdict.basis is Basis.SERVERS


@pytest.mark.parametrize("who", "bc")
def test_the_primary_is_not_dropped_for_a_former_leader_that_follows_it(who: str) -> None:
    topology = servers(a=2, b=-2, c=-2)
    answers = [by(who, view("b", 1))]
    assert not is_settled(answers, topology)
    assert judge(answers, topology).basis is Basis.SERVERS


def test_the_primary_is_drained_for_the_one_that_has_the_lock() -> None:
    """It is to be promoted, and its timeline is still the same."""
    assert judge([by("b", view("b", 1))], servers(a=1, b=-1)).leader == "b"


def test_a_promotion_counts_for_more_than_what_others_say_of_a_silent_leader() -> None:
    topology = stray("b", 2, c=-1)
    verdict = judge([by("b", view("a", 1)), by("c", view("a", 1))], topology)
    assert verdict.basis is Basis.SERVERS


def test_a_replica_that_somebody_has_promoted_does_not_count_for_more_than_the_leader() -> None:
    answers = [by("a", view("a", 1))]
    topology = stray("b", 2, a=1)
    assert not is_settled(answers, topology)  # the others may know more
    answers.append(by("b", view("a", 1)))
    assert judge(answers, topology).leader == "a"


def test_without_trust_the_newest_word_on_each_member_counts_and_none_is_left_out() -> None:
    older, newer = view("a", 1, "ab"), view("b", 2, "bc")
    for answers in ([by("c", newer), by("b", older)], [by("b", older), by("c", newer)]):
        found = {one.name: one.timeline for one in judge(answers, NOTHING).members}
        assert found == {"a": 1, "b": 2, "c": 2}
