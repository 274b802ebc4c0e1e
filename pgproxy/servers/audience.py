"""PURE. Who listens to which channels of one database, and who waits until all of theirs are."""

from collections.abc import Callable
from typing import final

from pgproxy.errors import PgError


class Hearer:
    """A client, as far as its notifications go."""

    def __init__(self, user: str) -> None:
        self.user = user

    def notified(self, channel: bytes, frame: bytes) -> None:
        raise NotImplementedError


@final
class Audience:
    """`hearers` have their channels, `channels` those who listen to them; nobody and nothing in it is
    without."""

    def __init__(self) -> None:
        self.hearers: dict[Hearer, set[bytes]] = {}
        self.channels: dict[bytes, dict[Hearer, None]] = {}
        self._lists: dict[bytes, list[Hearer]] = {}  # of `channels`, until it changes

    def join(self, hearer: Hearer, channels: list[bytes]) -> None:
        """Listens to these too."""
        own = self.hearers.setdefault(hearer, set())
        for channel in channels:
            if channel not in own:
                own.add(channel)
                self.channels.setdefault(channel, {})[hearer] = None
                self._lists.pop(channel, None)

    def keep(self, hearer: Hearer, wanted: set[bytes]) -> list[bytes]:
        """Listens to no others than these any more; returns the channels that nobody is left for."""
        own = self.hearers.get(hearer)
        if own is None:
            return []
        left: list[bytes] = []
        for channel in own - wanted:
            own.discard(channel)
            others = self.channels[channel]
            del others[hearer]
            self._lists.pop(channel, None)
            if not others:
                del self.channels[channel]
                left.append(channel)
        if not own:
            del self.hearers[hearer]
        return left

    def of(self, channel: bytes) -> list[Hearer] | None:
        """Who listens to it, in a list that stays as it is; None for nobody."""
        known = self.channels.get(channel)
        if known is None:
            return None
        hearers = self._lists.get(channel)
        if hearers is None:
            hearers = list(known)
            self._lists[channel] = hearers
        return hearers


@final
class Wait:
    """Somebody who is told when all of the channels are listened to, or the error."""

    def __init__(
        self,
        hearer: Hearer,
        channels: set[bytes],
        done: Callable[[PgError | None], None],
        deadline: float,
    ) -> None:
        self.hearer = hearer
        self.all = channels
        self.missing = set(channels)
        self.done = done
        self.deadline = deadline


@final
class Waits:
    """One of each hearer at most."""

    def __init__(self) -> None:
        self._waits: dict[Hearer, Wait] = {}
        self._missing: dict[bytes, list[Wait]] = {}  # by each channel that is

    def add(self, wait: Wait) -> None:
        self._waits[wait.hearer] = wait
        self._look_out(wait)

    def leave(self, hearer: Hearer) -> None:
        """It does not wait any more."""
        self._waits.pop(hearer, None)

    def told(self, channel: bytes, error: PgError | None) -> None:
        """It is listened to, or cannot be."""
        for wait in self._missing.pop(channel, ()):
            if self._waits.get(wait.hearer) is not wait:
                continue  # has left
            wait.missing.discard(channel)
            if error is not None or not wait.missing:
                del self._waits[wait.hearer]
                wait.done(error)

    def take(self, until: float) -> list[Wait]:
        """Those whose deadline is not later, which wait no more."""
        taken = [wait for wait in self._waits.values() if wait.deadline <= until]
        for wait in taken:
            del self._waits[wait.hearer]
        return taken

    def begin_again(self) -> None:
        """Nothing is listened to any more: what was is missing too."""
        self._missing.clear()
        for wait in self._waits.values():
            wait.missing = set(wait.all)
            self._look_out(wait)

    def _look_out(self, wait: Wait) -> None:
        for channel in wait.missing:
            self._missing.setdefault(channel, []).append(wait)
