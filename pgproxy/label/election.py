"""PURE. Who of several instances may write labels: the rules of a Lease (coordination.k8s.io/v1).

The rules are those of client-go's leaderelection:

- Nobody compares clocks. A follower measures by its own monotonic clock for how long the record has
  not changed; the times in the record are for people.
- Each write names the version of the Lease that it was made from, so that of two who take it one is
  refused (409).
- The leader stops by itself: `renew_deadline` after it *sent* its last successful write. A follower
  cannot have seen that write before it was sent, and takes the Lease `lease_duration` after it saw
  it, which is more. The rest is the time that a request under way may still take.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

NEVER: Final = float("-inf")
# Of a Lease that was given back, as client-go writes it: the field may not be 0.
_RELEASED_SECONDS: Final = 1


@final
@dataclass(frozen=True)
class Terms:
    """Seconds. The duration is written into the Lease, where it is a whole number."""

    lease_duration: int = 15
    renew_deadline: float = 10.0
    retry_period: float = 2.0


@final
@dataclass(frozen=True)
class Record:
    """What a Lease says; without a holder it is free. The times are RFC 3339, as they were written."""

    holder: str = ""
    seconds: int = 0
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0


@final
class Election:
    """One candidate. `identity` is no other's, not even a former process's of this pod."""

    def __init__(self, identity: str, terms: Terms) -> None:
        self.identity: Final = identity
        self.terms: Final = terms
        self.leads_until = NEVER  # monotonic seconds
        self.terms_won = 0
        self._seen: Record | None = None
        self._seen_at = NEVER  # when it was first seen as it is

    def leads(self, now: float) -> bool:
        return now < self.leads_until

    @property
    def holder(self) -> str:
        """As last seen; empty if nobody has it, or it was not seen yet."""
        return self._seen.holder if self._seen is not None else ""

    def saw(self, record: Record | None, now: float) -> None:
        """The Lease as the API server showed it; None: there is none."""
        if record != self._seen:
            self._seen, self._seen_at = record, now
        if record is None or record.holder != self.identity:
            self.leads_until = NEVER

    def may_take(self, now: float) -> bool:
        """Whether a write is due: to renew, or to take what is free, given back or run out."""
        seen = self._seen
        if seen is None or not seen.holder or seen.holder == self.identity:
            return True
        return now >= self._seen_at + (seen.seconds or self.terms.lease_duration)

    def claim(self, wall: str) -> Record:
        """The record to write; `wall` is the time of day."""
        seen = self._seen
        seconds = self.terms.lease_duration
        if seen is None:
            return Record(self.identity, seconds, wall, wall, 0)
        if seen.holder == self.identity:
            return Record(self.identity, seconds, seen.acquired, wall, seen.transitions)
        return Record(self.identity, seconds, wall, wall, seen.transitions + 1)

    def wrote(self, record: Record, sent_at: float, now: float) -> None:
        """The API server has taken `record`, of a request that was sent at `sent_at`."""
        if not self.leads(now):
            self.terms_won += 1
        self._seen, self._seen_at = record, now
        self.leads_until = sent_at + self.terms.renew_deadline

    def give_back(self, wall: str) -> Record | None:
        """From now on it does not lead; the record that lets another one lead at once, if it did."""
        self.leads_until = NEVER
        seen = self._seen
        if seen is None or seen.holder != self.identity:
            return None
        return Record("", _RELEASED_SECONDS, wall, wall, seen.transitions)


def record_of(lease: object) -> Record:
    """What a Lease of the API server's JSON says. Never raises."""
    spec = lease.get("spec") if isinstance(lease, dict) else None
    found: Mapping[Any, Any] = spec if isinstance(spec, dict) else {}
    return Record(
        _text(found.get("holderIdentity")),
        _number(found.get("leaseDurationSeconds")),
        _text(found.get("acquireTime")),
        _text(found.get("renewTime")),
        _number(found.get("leaseTransitions")),
    )


def lease_with(lease: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """`lease`, which keeps all that is not the election's, saying `record`."""
    spec = lease.get("spec")
    said = {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.seconds,
        "acquireTime": record.acquired,
        "renewTime": record.renewed,
        "leaseTransitions": record.transitions,
    }
    return {**lease, "spec": {**(spec if isinstance(spec, dict) else {}), **said}}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
