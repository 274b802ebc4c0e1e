"""PURE. What one client listens to, and what its open transaction will change of it.

LISTEN and UNLISTEN take effect when their transaction commits, and not at all if it is rolled back
or goes back to a savepoint before them ("LISTEN" in the manual). What a statement does to channels,
savepoints and its transaction the router says as a tuple of *acts*. Acts of what the proxy answers
itself happen at once (`act`); those of a batch that a server runs happen when its ReadyForQuery
comes (`sent`, `failed`, `ready`), unless an error came first.

A LISTEN that a server runs is heard on the client's own connection, so the channel leaves those
that are heard here.

The session's own settings (protocol/session.py) are told of savepoints and of the end.
"""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.frames.codes import STATUS_FAILED, STATUS_IDLE
from pgproxy.protocol.session import Session

# Acts.
LISTEN_TO: Final = 0
UNLISTEN_FROM: Final = 1
UNLISTEN_ALL: Final = 2
NOTIFIES: Final = 3
SAVEPOINT: Final = 4
RELEASE: Final = 5
ROLLBACK_TO: Final = 6
COMMITS: Final = 7
ROLLS_BACK: Final = 8
SETS: Final = 9  # one of the session's own settings

Act = tuple[int, bytes]

ENDINGS: Final = (COMMITS, ROLLS_BACK)
HAS_SET: Final[Act] = (SETS, b"")


@final
class _Awaited:
    def __init__(self, acts: tuple[Act, ...], at: i64) -> None:
        self.acts = acts
        self.at = at  # the number of its ReadyForQuery
        self.is_failed = False


@final
class Channels:
    """One client's. `active` is in the order in which the channels were listened to."""

    def __init__(self, session: Session | None = None) -> None:
        self.session = Session() if session is None else session
        self.active: dict[bytes, None] = {}
        self.notified = False  # the last transaction that ended has committed a NOTIFY
        self._changes: list[Act] = []  # of the open transaction
        self._savepoints: list[tuple[bytes, int]] = []  # name, number of changes before it
        self._notifies = False  # the open transaction has notified
        self._awaited: list[_Awaited] = []
        self._seen: i64 = 0  # ReadyForQuery
        self._commits = False  # a COMMIT is on its way

    @property
    def in_play(self) -> bool:
        """The end of the open transaction, or of a batch in flight, may change something."""
        return (
            len(self._awaited) > 0
            or len(self._changes) > 0
            or len(self._savepoints) > 0
            or self._notifies
        )

    @property
    def savepoints(self) -> list[bytes]:
        """Those of the open transaction, oldest first; none that an answer is awaited for."""
        return [name for name, _changes in self._savepoints]

    def hears(self, channel: bytes) -> bool:
        """Whether a notification that comes now is kept until the client is at rest, and then given
        if it listens to the channel. PostgreSQL too gives a session that listened to something else
        already what came during the transaction that began to listen to this (a backend reads on
        where it stopped reading); one that did not hears from its COMMIT on."""
        if channel in self.active:
            return True
        return (self._commits or len(self.active) > 0) and (LISTEN_TO, channel) in self._changes

    def wanted(self) -> set[bytes]:
        """Channels that are listened to, or may be when the transaction ends."""
        found = set(self.active)
        for act, channel in self._changes:
            if act == LISTEN_TO:
                found.add(channel)
        return found

    def act(self, acts: tuple[Act, ...]) -> None:
        """This has happened, in a transaction that goes on (or `end` is called at once)."""
        for act, name in acts:
            if act in (LISTEN_TO, UNLISTEN_FROM, UNLISTEN_ALL, SETS):
                self._changes.append((act, name))
            elif act == NOTIFIES:
                self._notifies = True
            elif act == SAVEPOINT:
                self._savepoints.append((name, len(self._changes)))
                self.session.savepoint(name)
            elif act in (RELEASE, ROLLBACK_TO):
                self._leave(name, goes_back=act == ROLLBACK_TO)
                self.session.leave_savepoint(name, goes_back=act == ROLLBACK_TO)
            elif act in (COMMITS, ROLLS_BACK):
                self.end(committed=act == COMMITS)

    def _leave(self, savepoint: bytes, *, goes_back: bool) -> None:
        index = len(self._savepoints) - 1
        while index >= 0 and self._savepoints[index][0] != savepoint:
            index -= 1
        if index < 0:
            return  # the server has refused it
        if goes_back:
            del self._changes[self._savepoints[index][1] :]
            index += 1  # it stays
        del self._savepoints[index:]

    def end(self, *, committed: bool) -> None:
        """The transaction has ended."""
        if committed:
            for act, channel in self._changes:
                if act == LISTEN_TO:
                    self.active[channel] = None
                elif act == UNLISTEN_FROM:
                    self.active.pop(channel, None)
                elif act == UNLISTEN_ALL:
                    self.active.clear()
        self.session.end(committed=committed)
        self.notified = committed and self._notifies
        self._changes.clear()
        self._savepoints.clear()
        self._notifies = False
        self._commits = False

    # --- what a server runs -------------------------------------------------------------------

    def sent(self, acts: tuple[Act, ...], owed: int) -> None:
        """A batch was sent while `owed` ReadyForQuery were to come before its own."""
        own = [(UNLISTEN_FROM, name) if act == LISTEN_TO else (act, name) for act, name in acts]
        if not self.in_play and all(act in ENDINGS for act, _ in own):
            return
        self._awaited.append(_Awaited(tuple(own), self._seen + owed + 1))
        if any(act == COMMITS for act, _ in own):
            self._commits = True

    def failed(self) -> None:
        """An ErrorResponse has come for the oldest batch in flight."""
        if self._awaited and self._awaited[0].at == self._seen + 1:
            self._awaited[0].is_failed = True

    def ready(self, status: int, before: int) -> None:
        """ReadyForQuery has come; the one before it had the status `before`."""
        self._seen += 1
        self.notified = False
        failed = before == STATUS_FAILED
        if self._awaited and self._awaited[0].at <= self._seen:
            awaited = self._awaited.pop(0)
            if awaited.is_failed:
                failed = True
            else:
                for act in awaited.acts:
                    # PostgreSQL answers COMMIT of a failed transaction with ROLLBACK.
                    if act[0] == COMMITS and failed:
                        self.end(committed=False)
                    else:
                        self.act((act,))
                    if act[0] in (COMMITS, ROLLS_BACK, ROLLBACK_TO):
                        failed = False
        if status == STATUS_IDLE and self._is_open:
            self.end(committed=not failed)

    @property
    def _is_open(self) -> bool:
        return len(self._changes) > 0 or len(self._savepoints) > 0 or self._notifies

    def settled(self) -> None:
        """No ReadyForQuery is owed any more."""
        if self._awaited:
            self._awaited.clear()
            self._commits = False

    def lost(self, *, ended: bool) -> None:
        """What was in flight has failed; `ended`: and no transaction is open."""
        self._awaited.clear()
        self._commits = False
        if ended:
            self.end(committed=False)
