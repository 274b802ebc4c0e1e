"""Freshness in a model of a cluster: no replica is ever called fresher than it is.

The model has what a real one has: WAL positions with page headers in between, answers that come
late, records that nobody has been told of, replicas that stand still, start anew from an older
state, are replaced or promoted, and a primary that crashes.
"""

from dataclasses import dataclass
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from pgproxy.topology.freshness import Freshness

# As PostgreSQL lays out WAL (xlog.c), but with segments of four pages: positions count headers, the
# bytes of records do not.
PAGE: Final = 8192
SHORT_HEADER: Final = 24
LONG_HEADER: Final = 40  # of a segment's first page
SEGMENT: Final = 4 * PAGE
FIRST_PAGE: Final = PAGE - LONG_HEADER
OTHER_PAGE: Final = PAGE - SHORT_HEADER
IN_SEGMENT: Final = FIRST_PAGE + 3 * OTHER_PAGE

REPLICAS: Final = ("a", "b")
SHARES: Final = (1.0, 0.0, 0.5, 0.9)  # of what there is


def end_of_record(written: int) -> int:
    """Where a record ends with which so many bytes are written (XLogBytePosToEndRecPtr)."""
    segments, left = divmod(written, IN_SEGMENT)
    if left == 0:
        return segments * SEGMENT
    if left < FIRST_PAGE:
        return segments * SEGMENT + LONG_HEADER + left
    pages, left = divmod(left - FIRST_PAGE, OTHER_PAGE)
    start = segments * SEGMENT + PAGE + pages * PAGE
    return start + SHORT_HEADER + left if left else start


def insert_position(written: int) -> int:
    """Where the next record begins (XLogBytePosToRecPtr)."""
    end = end_of_record(written)
    if end % SEGMENT == 0:
        return end + LONG_HEADER
    return end + SHORT_HEADER if end % PAGE == 0 else end


@dataclass
class Commit:
    written: int  # bytes with its record
    acknowledged: float


@dataclass
class Replica:
    replayed: int  # bytes
    follows: bool = True  # the primary's timeline


class ModelOfACluster(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.freshness = Freshness()
        self.now = 1.0
        self.written = 0  # bytes, by the primary
        self.commits: list[Commit] = []  # those that have not been lost
        self.asked: list[float] = []  # questions to the primary, on their way
        self.told = 0.0  # the newest question that it has answered
        self.replicas = {name: Replica(0) for name in REPLICAS}

    def later(self) -> float:
        """A time of its own for each event, as the clock's nanoseconds have it."""
        self.now += 0.001
        return self.now

    # Often so that a page ends with the record, or begins just before its end.
    @rule(size=st.integers(3, 40) | st.integers(990, 1030), acknowledged=st.booleans())
    def a_record_is_written(self, size: int, acknowledged: bool) -> None:
        self.written += size * 8
        if acknowledged:
            self.commits.append(Commit(self.written, self.later()))

    @rule(more=st.sampled_from([0, 8, 16, 24]))
    def a_page_is_filled(self, more: int) -> None:
        """By a record of which so much is on the next one."""
        end = end_of_record(self.written)
        whole = FIRST_PAGE if end % SEGMENT == 0 else OTHER_PAGE
        self.written += (-end % PAGE or whole) + more
        self.commits.append(Commit(self.written, self.later()))

    @rule(answers=st.booleans())
    def the_primary_is_asked(self, answers: bool) -> None:
        self.asked.append(self.later())
        if answers:
            self.the_primary_answers(-1)

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0, 5))
    def the_primary_answers(self, which: int) -> None:
        asked = self.asked.pop(which % len(self.asked))
        self.freshness.primary_at(asked, insert_position(self.written))
        self.told = max(self.told, asked)

    @rule(name=st.sampled_from(REPLICAS), share=st.sampled_from(SHARES))
    def a_replica_replays(self, name: str, share: float) -> None:
        """Up to a commit, or the end."""
        replica = self.replicas[name]
        if replica.follows:
            ends = [commit.written for commit in self.commits if commit.written > replica.replayed]
            ends.append(max(self.written, replica.replayed))
            replica.replayed = ends[round(share * (len(ends) - 1))]
            self.a_replica_is_asked(name)

    @rule(name=st.sampled_from(REPLICAS))
    def a_replica_is_asked(self, name: str) -> None:
        replica = self.replicas[name]
        if not replica.follows:
            return  # nor does the monitor count what such a one says
        fresh = self.freshness.replica_at(name, end_of_record(replica.replayed))
        missing = [
            commit
            for commit in self.commits
            if commit.acknowledged <= fresh and commit.written > replica.replayed
        ]
        assert not missing, f"{name} is said to be fresh as of {fresh}"
        if replica.replayed == self.written:
            assert fresh >= self.told, "it shows all, and nobody would know"

    @rule(name=st.sampled_from(REPLICAS), share=st.sampled_from(SHARES))
    def a_replica_starts_anew(self, name: str, share: float) -> None:
        """From an older state, where it was before."""
        replica = self.replicas[name]
        ends = [0, *[commit.written for commit in self.commits]]
        older = [end for end in ends if end <= replica.replayed]
        replica.replayed = older[round(share * (len(older) - 1))]
        self.a_replica_is_asked(name)

    @rule(name=st.sampled_from(REPLICAS))
    def another_server_gets_the_name(self, name: str) -> None:
        self.freshness.forget(name)
        self.replicas[name] = Replica(0)

    @rule(share=st.sampled_from(SHARES))
    def the_primary_crashes(self, share: float) -> None:
        """Records are lost of which nobody has heard."""
        kept = [replica.replayed for replica in self.replicas.values() if replica.follows]
        kept += [commit.written for commit in self.commits]
        self.written = max([*kept, int(self.written * share) // 8 * 8])
        self.asked.clear()
        self.told = 0.0

    @rule(name=st.sampled_from(REPLICAS))
    def a_replica_is_promoted(self, name: str) -> None:
        """What it has not replayed is lost. The other one follows, unless it has more of the old
        timeline; the old primary is made its replica."""
        promoted = self.replicas[name]
        if not promoted.follows:
            return
        self.written = promoted.replayed
        self.commits = [one for one in self.commits if one.written <= self.written]
        self.asked.clear()
        self.told = 0.0
        self.freshness.reset()
        for replica in self.replicas.values():
            replica.follows = replica.follows and replica.replayed <= self.written


ModelOfACluster.TestCase.settings = settings(stateful_step_count=50)
TestNoReplicaIsCalledFresherThanItIs = ModelOfACluster.TestCase
