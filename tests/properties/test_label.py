"""The controllers of labels, several at once, in any order of events: never two primaries, never two
leaders."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pgproxy.label.decisions import Labels, Pod, Wish, next_step, patch_of
from pgproxy.label.election import Election, Record, Terms

pytestmark = pytest.mark.once

LABELS = Labels("role", "primary", "replica")
NAMES = ("a", "b", "c")
numbers = st.integers(0, 2)


class LabelsMachine(RuleBasedStateMachine):
    """Leaders come and go as the Lease allows it: one at a time decides. But what one has sent may
    arrive whenever it likes, also after others have led."""

    def __init__(self) -> None:
        super().__init__()
        self.versions = itertools.count(1)
        self.pods = {name: Pod(name, f"uid-{name}", self.version()) for name in NAMES}
        self.primary: str | None = "a"
        self.leader = 0
        self.unknown = 0
        self.listed: tuple[Pod, ...] = ()
        self.flying: list[tuple[str, dict[str, Any]]] = []
        self.the_leader_works(5, "answered")

    def version(self) -> str:
        return str(next(self.versions))

    def apply(self, name: str, patch: dict[str, Any]) -> bool:
        """As the API server does."""
        pod, metadata = self.pods[name], patch["metadata"]
        if metadata["resourceVersion"] != pod.resource_version:
            return False
        value = metadata.get("labels", {}).get(LABELS.key, pod.value) or ""
        stamp = metadata.get("annotations", {}).get("pgproxy.io/labelled-by", pod.stamp)
        self.pods[name] = replace(pod, value=value, stamp=stamp, resource_version=self.version())
        return True

    @rule(name=st.sampled_from(NAMES), is_made_anew=st.booleans())
    def a_pod_changes(self, name: str, is_made_anew: bool) -> None:
        """It is another one of that name, or a kubelet writes its status."""
        version = self.version()
        pod = replace(self.pods[name], resource_version=version)
        self.pods[name] = Pod(name, f"uid-{version}", version) if is_made_anew else pod

    @rule(
        primary=st.sampled_from([*NAMES, None]),
        is_another_leader=st.booleans(),
        patches=st.integers(1, 6),
        fate=st.sampled_from(["answered", "lost", "under way"]),
    )
    def the_cluster_changes(
        self, primary: str | None, is_another_leader: bool, patches: int, fate: str
    ) -> None:
        self.primary = primary
        if is_another_leader:
            self.leader += 1
            self.unknown = 0
        self.the_leader_works(patches, fate)

    def the_leader_works(self, patches: int, fate: str) -> None:
        """It lists, and patches until something is not answered, or somebody else comes in between."""
        self.listed = tuple(self.pods.values())
        for _ in range(patches - 1):
            self.patch("answered")
        self.patch(fate)

    def patch(self, fate: str) -> None:
        wishes = {
            name: Wish("primary" if name == self.primary else "replica", "x") for name in NAMES
        }
        stamp = f"{self.leader}.{self.unknown}"
        step = next_step(self.listed, wishes, LABELS, stamp)
        if step is None:
            return
        name, patch = step.pod.name, patch_of(step, LABELS)
        if fate == "answered":
            if self.apply(name, patch):
                after = self.pods[name]
                self.listed = tuple(after if pod is step.pod else pod for pod in self.listed)
            else:  # a conflict: to be listed anew
                self.listed = ()
            return
        self.unknown += 1
        self.listed = ()
        if fate == "under way":
            self.flying.append((name, patch))

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def one_arrives_late(self, data: st.DataObject) -> None:
        name, patch = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        self.apply(name, patch)

    @invariant()
    def there_are_never_two(self) -> None:
        assert sum(pod.value == LABELS.primary for pod in self.pods.values()) <= 1

    def teardown(self) -> None:
        """Left alone, the leader brings all labels to what is wished for."""
        self.leader += 1
        self.primary = "b"
        for _ in range(3):
            self.the_leader_works(5, "answered")
        values = {name: pod.value for name, pod in self.pods.items()}
        assert values == {"a": "replica", "b": "primary", "c": "replica"}


@dataclass
class Candidate:
    election: Election
    offset: float  # of its clock, which runs at the pace of all
    version: int = 0  # as it has read it


@dataclass
class Write:
    one: Candidate
    version: int
    record: Record
    sent_at: float


class ElectionMachine(RuleBasedStateMachine):
    """Candidates try at any time; their writes arrive, and the answers come back, late or never."""

    @initialize(offsets=st.tuples(*[st.integers(-1000, 1000)] * 3))
    def begin(self, offsets: tuple[int, int, int]) -> None:
        terms = Terms(15, 10.0, 2.0)
        self.now = 0.0
        self.version = 0
        self.record: Record | None = None
        self.candidates = [
            Candidate(Election(str(number), terms), offset) for number, offset in enumerate(offsets)
        ]
        self.flying: list[Write] = []
        self.unanswered: list[Write] = []
        self.walls = itertools.count()

    def clock(self, one: Candidate) -> float:
        return self.now + one.offset

    @rule(seconds=st.integers(1, 8))
    def time_goes_by(self, seconds: int) -> None:
        self.now += seconds

    @rule(number=numbers, is_read=st.booleans(), is_quick=st.booleans())
    def one_tries(self, number: int, is_read: bool, is_quick: bool) -> None:
        one = self.candidates[number]
        if is_read or not one.election.leads(self.clock(one)):
            one.version = self.version
            one.election.saw(self.record, self.clock(one))
        if one.election.may_take(self.clock(one)):
            record = one.election.claim(str(next(self.walls)))
            write = Write(one, one.version, record, self.clock(one))
            if not is_quick:
                self.flying.append(write)
            elif self.arrives(write):
                self.is_answered(write)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def one_arrives(self, data: st.DataObject) -> None:
        write = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        if self.arrives(write):
            self.unanswered.append(write)

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data())
    def one_is_answered(self, data: st.DataObject) -> None:
        self.is_answered(self.unanswered.pop(data.draw(st.integers(0, len(self.unanswered) - 1))))

    def arrives(self, write: Write) -> bool:
        if write.version != self.version:
            return False  # 409
        self.version += 1
        self.record, write.version = write.record, self.version
        return True

    def is_answered(self, write: Write) -> None:
        write.one.version = write.version
        write.one.election.wrote(write.record, write.sent_at, self.clock(write.one))

    @rule(number=numbers)
    def one_gives_back(self, number: int) -> None:
        one = self.candidates[number]
        record = one.election.give_back(str(next(self.walls)))
        if record is not None and one.version == self.version:
            self.version += 1
            self.record = record

    @rule()
    def somebody_deletes_it_when_nobody_leads(self) -> None:
        leads = [one for one in self.candidates if one.election.leads(self.clock(one))]
        if not leads and not self.unanswered:
            self.record = None
            self.version += 1

    @invariant()
    def never_two_lead(self) -> None:
        if hasattr(self, "candidates"):
            assert sum(one.election.leads(self.clock(one)) for one in self.candidates) <= 1


TestLabels = LabelsMachine.TestCase
TestLabels.settings = settings(max_examples=150, stateful_step_count=40)
TestElection = ElectionMachine.TestCase
TestElection.settings = settings(max_examples=150, stateful_step_count=40)
