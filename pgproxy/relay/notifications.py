"""HOT. One client's notifications: what it listens to, what it is still to be given, and when.

PostgreSQL sends a NotificationResponse between transactions only. So one that comes while the client
is at rest is written at once, any other waits for the next ReadyForQuery that says "idle" and goes
in front of it. What waits is bounded by `LIMIT`.

What listens is the connection that all clients share (servers/listening.py). The client's LISTEN is
answered when that connection listens, be it in a transaction too: COMMIT then needs no wait.

A client that has committed a NOTIFY is told so (ReadyForQuery) only after a marker has come back:
then it has its own notification, as it would have from PostgreSQL, and until then its server
connection is not given to another, so that the process id in the notification is known to be its.
"""

from typing import TYPE_CHECKING, Final, final

from mypy_extensions import i64

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.frames.codes import STATUS_IDLE
from pgproxy.protocol.channels import ENDINGS, LISTEN_TO, NOTIFIES, Act, Channels
from pgproxy.protocol.states import FREE, GONE, LEASED, SETTLING, WAITING
from pgproxy.servers.audience import Hearer
from pgproxy.servers.connection import ServerConnection
from pgproxy.servers.listening import Listening, Shared

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

# Bytes of notifications that wait for one client.
LIMIT: Final = 1 << 20

OVERFLOW: Final = PgError(
    "53400",
    "too many notifications are waiting for this client",
    severity="FATAL",
    detail=(
        f"More than {LIMIT} bytes of notifications came while it was in a transaction or did not "
        "read. Connect again, and keep the transactions of a session that listens short."
    ),
)


@final
class Notifications(Hearer):
    """One relay's. `listening` is None where each session listens for itself."""

    def __init__(self, relay: "Relay", channels: Channels, listening: Listening | None) -> None:
        super().__init__(relay.group.user)
        self.relay = relay
        self.channels = channels
        self.listening = listening
        self.holds = False  # ReadyForQuery waits for a marker
        self._shared: Shared | None = None  # knows this client
        self._answer: bytes | None = None  # to a LISTEN that is not confirmed yet
        self._waiting: list[tuple[bytes, bytes]] = []  # channel, frame
        self._size: i64 = 0
        self._mark: i64 = 0  # the number of the marker that is waited for
        self._shown: tuple[str, int] | None = None  # where this client's process id is shown

    @property
    def busy(self) -> bool:
        """ReadyForQuery, errors and the end of what is read are of interest."""
        return len(self._waiting) > 0 or self._shown is not None or self.channels.in_play

    @property
    def has_news(self) -> bool:
        return len(self._waiting) > 0

    @property
    def waits(self) -> bool:
        """The batch at hand, a LISTEN, is answered later."""
        return self._answer is not None

    # --- LISTEN and UNLISTEN that the proxy answers ------------------------------------------

    def answer(self, acts: tuple[Act, ...], answer: bytes) -> None:
        """Answers the batch at hand, now or (it `waits`) when the channels are listened to."""
        relay = self.relay
        names = [name for act, name in acts if act == LISTEN_TO]
        if names:
            shared = self._shared
            if shared is None or shared.is_closed:
                assert self.listening is not None
                shared = self.listening.shared(relay.group.database, _encoding(relay))
                self._shared = shared
            if not shared.listen(self, names, self._listened):
                self._answer = answer
                relay.enter(WAITING if relay.phase == FREE else SETTLING)
                return
        self._done(acts, answer)

    def _done(self, acts: tuple[Act, ...], answer: bytes) -> None:
        relay = self.relay
        self.channels.act(acts)
        if relay.front.status == STATUS_IDLE:
            self.channels.end(committed=True)
        self.update()
        relay.client.write(answer)
        relay.batch.done()

    def _listened(self, error: PgError | None) -> None:
        relay = self.relay
        answer = self._answer
        if relay.phase == GONE or answer is None:
            return
        self._answer = None
        relay.enter(FREE if relay.phase == WAITING else LEASED)
        try:
            if error is None:
                self._done(relay.batch.acts, answer)
            else:
                self.update()
                relay.requests.answer_error(
                    PgError(error.sqlstate, error.message, detail=error.detail, hint=error.hint)
                )
            relay.requests.resume()
        except PgError as fatal:
            relay.fail(fatal)

    def cancel(self) -> bool:
        """The client wants what it is doing cancelled; True: it was waiting here."""
        if self.holds:
            return True  # it is done, but for the client's knowing
        if self._answer is None:
            return False
        if self._shared is not None:
            self._shared.gone(self)
        self._listened(PgError("57014", "canceling statement due to user request"))
        return True

    def update(self) -> None:
        """After a change: channels that are not wanted any more are given up."""
        shared = self._shared
        if shared is None:
            return
        wanted = self.channels.wanted()
        shared.keep(self, wanted)
        if not wanted:
            self._shared = None

    def gone(self) -> None:
        """The client is about to go."""
        if self.holds:
            self._release(tell=False)
        self._hide_pid()
        self._answer = None
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.gone(self)
            shared.keep(self, set())
        self._waiting.clear()
        self._size = 0

    def interrupted(self) -> None:
        """The relay's server has gone; the batch at hand will be dispatched again."""
        if self._answer is not None and self._shared is not None:
            self._shared.gone(self)
        self._answer = None

    # --- notifications ------------------------------------------------------------------------

    def notified(self, channel: bytes, frame: bytes) -> None:
        if not self.channels.hears(channel):
            return
        relay = self.relay
        assert self.listening is not None
        self.listening.delivered += 1
        self._waiting.append((channel, frame))
        self._size += len(frame)
        self.deliver()
        if self._size > LIMIT and relay.phase != GONE:
            self.listening.overflows += 1
            relay.fail(OVERFLOW)

    def deliver(self) -> None:
        """Gives the client what waits, if this is the moment."""
        relay = self.relay
        if not self._waiting or relay.client.write_paused or not relay.at_rest:
            return
        if relay.server is not None and relay.server.splitter.passing:
            return  # in the middle of a frame
        news = self._take()
        if news:
            relay.client.write(news)

    def _take(self) -> bytes:
        relay = self.relay
        active = self.channels.active
        news = b"".join([frame for channel, frame in self._waiting if channel in active])
        self._waiting.clear()
        self._size = 0
        if news and relay.context.keeps_watermark:
            relay.writes.note()  # who is told of a change must find it
        return news

    # --- batches that a server runs -----------------------------------------------------------

    def sent(self, acts: tuple[Act, ...], server: ServerConnection) -> None:
        """A batch is about to be sent."""
        if len(acts) == 1 and acts[0][0] in ENDINGS and not self.channels.in_play:
            return
        relay = self.relay
        self.channels.sent(acts, relay.inflight.readies())
        listening = self.listening
        if listening is None:
            return
        for act, _name in acts:
            if act == LISTEN_TO:
                relay.batch.shares_listening = False  # it is the server connection's from now on
            elif act == NOTIFIES and self._shown is None:
                shared = listening.connected(relay.group.database, b"")
                if shared is not None and relay.client.pid:
                    self._shown = (server.backend.name, server.pid)
                    listening.shown_pids[self._shown] = int(relay.client.pid)

    def ready(self, before: i64) -> bytes:
        """ReadyForQuery has come; what is to go in front of it. Sets `holds`."""
        relay = self.relay
        channels = self.channels
        status = relay.front.status
        channels.ready(int(status), int(before))
        settled = relay.inflight.settled
        if settled:
            channels.settled()
        self.update()
        if status != STATUS_IDLE:
            return b""
        if channels.notified:
            channels.notified = False
            if settled and self._may_hold() and self._begin_hold():
                return b""
        self._hide_pid()
        return self._take() if self._waiting else b""

    def _may_hold(self) -> bool:
        relay = self.relay
        return (
            relay.phase == LEASED
            and not relay.batch.continues
            and not relay.batch.open
            and not relay.batch.input.passing
        )

    def _begin_hold(self) -> bool:
        relay = self.relay
        if self.listening is None:
            return False
        shared = self._shared
        if shared is None or shared.server is None:
            shared = self.listening.connected(relay.group.database, b"")
        if shared is None:
            return False
        self._mark += 1
        number = self._mark

        def marked() -> None:
            if self.holds and self._mark == number:
                self._release(tell=True)
                self._go_on()

        self.holds = shared.mark(self, marked)
        return self.holds

    def hold(self) -> None:
        """All that is the server's to say has been said, but for ReadyForQuery."""
        relay = self.relay
        relay.journal.clear()
        relay.enter(SETTLING)

    def _release(self, *, tell: bool) -> None:
        """The marker has come: the client is ready, and its server connection free."""
        relay = self.relay
        server = relay.server
        self.holds = False
        self._hide_pid()
        if server is None or relay.phase != SETTLING:
            return  # it was lost before `hold`
        if tell:
            relay.client.write(self._take() + write.READY_IDLE)
        relay.enter(LEASED)
        relay.settled(server)

    def _go_on(self) -> None:
        relay = self.relay
        try:
            relay.requests.resume()
        except PgError as error:
            relay.fail(error)

    def server_lost(self) -> None:
        """The server has gone, after all was said."""
        relay = self.relay
        self.holds = False
        self._hide_pid()
        relay.client.write(self._take() + write.READY_IDLE)
        relay.enter(FREE)
        relay.forget_transaction()
        self._go_on()

    def _hide_pid(self) -> None:
        shown, self._shown = self._shown, None
        if shown is not None and self.listening is not None:
            self.listening.shown_pids.pop(shown, None)


def _encoding(relay: "Relay") -> bytes:
    return relay.carry.reported.get(b"client_encoding", b"")
