"""PURE. A worker's part of the caps that hold over all workers: quotas.py's other end.

What a cap counts is a `Source`: it says how many it uses and wants, and is told how many it may have.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from pgproxy.workers.quotas import Key

Send = Callable[[dict[str, Any]], None]


class Source(Protocol):
    """What counts against one cap."""

    key: Key
    is_impatient: bool
    """Who waits wants to know at once if there is nothing to be had."""

    @property
    def cap(self) -> int:
        """Over all workers."""

    def used(self) -> int:
        """How many there are."""

    def want(self) -> int:
        """How many are in use or waited for."""

    def resize(self, number: int) -> None:
        """How many there may be from now on: no more come while there are as many, or more."""

    def dry(self) -> None:
        """Nothing can be had for now."""


class Claim:
    """How many of one cap this worker holds, and what the supervisor knows of it.

    Not more than `bound` are used; where some are to be given back, not more than `target` new ones.
    """

    def __init__(self, source: Source, send: Send) -> None:
        self.source: Final = source
        self.bound = 0
        self.target: int | None = None
        self._send: Final = send
        self._told_want = 0
        self._told_cap = 0
        self._last_want = 0
        self._asks = 0  # how often somebody has come who waits
        self._peak = 0  # the most that was wanted since the last `tick`
        self._peak_used = 0

    @property
    def owes(self) -> bool:
        """It is to give back what is in use still."""
        return self.target is not None and self.bound > self.target

    @property
    def is_over(self) -> bool:
        """Nothing is held or wanted."""
        source = self.source
        return not (self.bound or self._told_want or source.used() or source.want())

    def look(self) -> None:
        """The source has changed: asks for more, gives back what is owed."""
        want, used = self.source.want(), self.source.used()
        self._peak = max(self._peak, want)
        self._peak_used = max(self._peak_used, used)
        given = self._surplus(used) if self.owes else 0
        known = self._last_want if self.source.is_impatient else self._told_want
        self._last_want = want
        asks = want > self.bound and want > known
        self._asks += asks
        if given or asks:
            self._report(want, given, asks=self._asks if asks else 0)

    def tick(self) -> None:
        """A while has passed: gives back what was not used in it."""
        self.look()
        unused = 0 if self.owes else self.bound - max(self._peak_used, self._peak)
        # What was wanted in vain and is not any more is no reason to ask for it.
        want = min(self._peak, max(self.bound, self.source.want()))
        if (
            unused > 0
            or want != self._told_want
            or (self.bound and self._told_cap != self.source.cap)
        ):
            self._report(want, max(unused, 0))
        self._peak = self.source.want()
        self._peak_used = self.source.used()

    def granted(self, number: int) -> None:
        self.bound += number
        self.lifted()

    def lifted(self) -> None:
        """It may have all that it holds, again."""
        self.target = None
        self.source.resize(self.bound)
        self.look()

    def recalled(self, target: int) -> None:
        """It may have `target` only, and gives back the rest."""
        self.target = target
        self.source.resize(min(self.bound, target))
        self._report(self.source.want(), self._surplus(self.source.used()), answers=1)

    def probed(self) -> None:
        """The supervisor asks what is wanted."""
        self._peak = self.source.want()
        self._report(self._peak, 0, answers=1)

    def dried(self, number: int) -> None:
        """There is nothing to be had; that is the answer to those who had come by then."""
        if number < self._asks:
            return  # the answer to the others is still to come
        self.source.dry()
        want = self._last_want = self.source.want()
        if want != self._told_want:
            self._report(want, 0)

    def _surplus(self, used: int) -> int:
        target = self.bound if self.target is None else self.target
        return max(0, self.bound - max(used, target))

    def _report(self, want: int, given: int, *, answers: int = 0, asks: int = 0) -> None:
        source = self.source
        if given:
            self.bound -= given
            source.resize(self.bound if self.target is None else min(self.bound, self.target))
        self._told_want = want
        self._told_cap = source.cap
        self._send(
            {
                "key": list(source.key),
                "cap": source.cap,
                "used": source.used(),
                "want": want,
                "given": given,
                "answers": answers,
                "asks": asks,
            }
        )


class Claims:
    """Those of one worker. `send` takes reports (Quotas.report)."""

    def __init__(self, send: Send) -> None:
        self._send: Final = send
        self._claims: Final[dict[Key, Claim]] = {}

    def source(self, key: Key) -> Source | None:
        """What is known to count against a cap."""
        claim = self._claims.get(key)
        return None if claim is None else claim.source

    def add(self, source: Source) -> None:
        """It has none yet."""
        self._claims[source.key] = Claim(source, self._send)

    def look(self, source: Source) -> None:
        """It has changed."""
        self._claims[source.key].look()

    def order(self, key: Key, kind: str, number: int) -> None:
        """The supervisor's."""
        claim = self._claims.get(key)
        if claim is None:  # it has ended while this was on its way
            self._send_back(key, kind, number)
        elif kind == "grant":
            claim.granted(number)
        elif kind == "recall":
            claim.recalled(number)
        elif kind == "lift":
            claim.lifted()
        elif kind == "probe":
            claim.probed()
        else:
            claim.dried(number)

    def _send_back(self, key: Key, kind: str, number: int) -> None:
        given = number if kind == "grant" else 0
        answers = 1 if kind in ("recall", "probe") else 0
        if given or answers:
            word = {"key": list(key), "cap": 0, "used": 0, "want": 0}
            self._send(word | {"given": given, "answers": answers, "asks": 0})

    @property
    def owes(self) -> bool:
        """Something is to be given back as soon as it is not used any more."""
        return any(claim.owes for claim in self._claims.values())

    def pay(self) -> None:
        """Looks for what can be given back by now."""
        for claim in list(self._claims.values()):
            if claim.owes:
                claim.look()

    def tick(self) -> None:
        """To be called every second or so."""
        for key, claim in list(self._claims.items()):
            claim.tick()
            if claim.is_over:
                del self._claims[key]

    def held(self) -> dict[Key, int]:
        return {key: claim.bound for key, claim in self._claims.items()}
