"""What clients wrote and saw, and what of it must not be. PURE: no clock, no I/O.

Every write raises the version of one key, every read tells which version it saw. `Moment`s order
what happened: numbers that rise with each event of whichever client, handed out in one place.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

Moment = int
Scope = Literal["session", "global"]


@dataclass(frozen=True, slots=True)
class Write:
    """A write whose commit was acknowledged. One whose outcome is not known is none: it may be
    seen or not."""

    session: int  # one connection of a client
    key: int
    version: int
    sent: Moment
    acknowledged: Moment


@dataclass(frozen=True, slots=True)
class Read:
    """`sent` is when the statement left the client; where one snapshot serves a transaction, when
    the first statement of that did."""

    session: int
    key: int
    version: int
    sent: Moment
    on_replica: bool


@dataclass(frozen=True, slots=True)
class Stale:
    """A read that saw less than it was owed."""

    read: Read
    owed: int  # a version

    def __str__(self) -> str:
        read = self.read
        where = "a replica" if read.on_replica else "the primary"
        return (
            f"at {read.sent} session {read.session} was shown version {read.version} of key"
            f" {read.key} by {where}, and was owed {self.owed}"
        )


@dataclass(slots=True)
class History:
    """All that happened, in any order."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)

    @property
    def share_of_replicas(self) -> float:
        """Of all reads, those that replicas served."""
        return sum(read.on_replica for read in self.reads) / max(1, len(self.reads))

    @property
    def share_of_writes(self) -> float:
        """Of all reads and writes."""
        return len(self.writes) / max(1, len(self.writes) + len(self.reads))


def stale_reads(history: History, scope: Scope) -> list[Stale]:
    """The reads that break the promise of `read_your_writes = scope`.

    "session": a read sees what its session wrote before. What a session sends is done in that
    order, so a write counts that was sent before, even if its answer was still to come.
    "global": a read sees what anybody had been told, before it was sent, to be written.
    """
    if scope == "session":
        return _older_than(
            history,
            [(write.sent, (write.session, write.key), write.version) for write in history.writes],
            lambda read: (read.session, read.key),
        )
    return _older_than(
        history,
        [(write.acknowledged, (0, write.key), write.version) for write in history.writes],
        lambda read: (0, read.key),
    )


def steps_back(history: History) -> list[Stale]:
    """The reads that saw less than an earlier read of their session: nobody promises otherwise."""
    return _older_than(
        history,
        [(read.sent, (read.session, read.key), read.version) for read in history.reads],
        lambda read: (read.session, read.key),
    )


def _older_than(
    history: History,
    debts: Iterable[tuple[Moment, tuple[int, int], int]],
    creditor: Callable[[Read], tuple[int, int]],
) -> list[Stale]:
    """The reads that saw less than the highest version owed to their creditor by then."""
    owed: dict[tuple[int, int], int] = {}
    found = []
    due = sorted(debts)
    at = 0
    for read in sorted(history.reads, key=lambda read: read.sent):
        while at < len(due) and due[at][0] < read.sent:
            _moment, who, version = due[at]
            owed[who] = max(owed.get(who, 0), version)
            at += 1
        least = owed.get(creditor(read), 0)
        if read.version < least:
            found.append(Stale(read, least))
    return found
