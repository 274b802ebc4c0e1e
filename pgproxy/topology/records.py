"""PURE. What DNS has said of the configured names, and the servers that follow.

Each question (a name and a type) keeps its last answer. Trouble on the way (no answer in time, no
nameserver that can) leaves it as it was; that there is nothing under the name, or no such name, is an
answer too. A name that begins with an underscore is asked for SRV records, whose targets are asked
for addresses in their turn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, final

from pgproxy.config import Backend as Entry
from pgproxy.config import Dns
from pgproxy.topology.model import Backend

# Records that are taken from one answer.
MOST: Final = 500
_ADDRESS_TYPES: Final = {"any": ("A", "AAAA"), "ipv4": ("A",), "ipv6": ("AAAA",)}


class Outcome(Enum):
    """How a question ended; the value is the metric's label."""

    OK = "ok"
    EMPTY = "empty"  # there is the name, but nothing of the type
    NO_NAME = "nxdomain"
    REFUSED = "failed"  # no nameserver could say it: SERVFAIL, REFUSED, not to be reached
    SILENT = "timeout"
    CONFIGURATION = "configuration"  # /etc/resolv.conf


_ANSWERS: Final = frozenset({Outcome.OK, Outcome.EMPTY, Outcome.NO_NAME})


@final
@dataclass(frozen=True)
class Question:
    name: str
    kind: str  # A, AAAA or SRV


@final
@dataclass(frozen=True)
class Reply:
    outcome: Outcome
    values: tuple[
        tuple[str, int], ...
    ] = ()  # an address, or a target; with the port of SRV, else 0
    ttl: float = 0.0  # seconds
    message: str = ""


class Records:
    def __init__(self, settings: Dns) -> None:
        self._settings: Final = settings
        self._kinds: Final = _ADDRESS_TYPES[settings.family]
        self._known: Final[dict[Question, tuple[tuple[str, int], ...]]] = {}
        self._names: Final = [name for name in settings.names if not is_service(name)]
        self._services: Final = [name for name in settings.names if is_service(name)]

    def questions(self) -> list[Question]:
        """Those that can be asked at once."""
        names = [Question(name, kind) for name in self._names for kind in self._kinds]
        return [*names, *[Question(name, "SRV") for name in self._services]]

    def further_questions(self) -> list[Question]:
        """Those that the answers to SRV questions lead to."""
        return [
            question
            for target in self._target_names()
            for kind in self._kinds
            if (question := Question(target, kind)) not in self.questions()
        ]

    def take(self, question: Question, reply: Reply) -> None:
        if reply.outcome in _ANSWERS:
            self._known[question] = reply.values

    def forget_the_rest(self) -> None:
        """What was said of targets that no service names any more."""
        asked = {*self.questions(), *self.further_questions()}
        for question in self._known.keys() - asked:
            del self._known[question]

    @property
    def has_gaps(self) -> bool:
        """Whether there is a name of which no address is known, and not for want of records."""
        names = [*self._names, *self._target_names()]
        return any(Question(name, "SRV") not in self._known for name in self._services) or any(
            not any(self._addresses(name))
            and any(Question(name, kind) not in self._known for kind in self._kinds)
            for name in names
        )

    def backends(self) -> tuple[Backend, ...]:
        """Each address and port once, in order. Their names are 10.0.0.1:5432 and [fd00::1]:5432."""
        port = self._settings.port
        found = {(address, port) for name in self._names for address in self._addresses(name)}
        for target, own_port in self._targets():
            found |= {(address, own_port) for address in self._addresses(target)}
        return tuple(
            Backend(name=Entry(host=address, port=port).label, host=address, port=port)
            for address, port in sorted(found)
        )

    def _targets(self) -> Iterator[tuple[str, int]]:
        for name in self._services:
            yield from self._known.get(Question(name, "SRV"), ())

    def _target_names(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys(target for target, _ in self._targets()))

    def _addresses(self, name: str) -> Iterator[str]:
        for kind in self._kinds:
            for address, _ in self._known.get(Question(name, kind), ()):
                yield address


def is_service(name: str) -> bool:
    """Whether it is asked for SRV records."""
    return name.startswith("_")


def pause_after(replies: Sequence[Reply], failures: int, shortest: float, longest: float) -> float:
    """Seconds until the next round: the shortest TTL, within bounds; after the first of `failures` in
    a row no more than `shortest`, which each further one doubles."""
    ttls = [reply.ttl for reply in replies if reply.outcome is Outcome.OK]
    pause = min(max(min(ttls, default=longest), shortest), longest)
    if failures:
        pause = min(pause, shortest * 2.0 ** min(failures - 1, 30))
    return pause


def is_failure(reply: Reply) -> bool:
    """Whether it was no answer at all."""
    return reply.outcome not in _ANSWERS
