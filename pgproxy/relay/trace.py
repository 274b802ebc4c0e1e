"""Tells a client that has set pgproxy.trace where each of its batches goes: a NOTICE in front of the
answers to it.

Drivers take a NOTICE at any place between two messages. One that goes to the client while answers
are still to come to what it sent before waits in their queue.
"""

from typing import TYPE_CHECKING

from pgproxy.errors import SUCCESS, PgError
from pgproxy.frames import write
from pgproxy.protocol.inflight import Owed
from pgproxy.protocol.states import CLOSE
from pgproxy.routing.front import LastRoute
from pgproxy.routing.pins import Pin
from pgproxy.routing.reasons import REASONS, SENTENCES

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay


def trace(relay: "Relay", *, pipelined: bool) -> None:
    """The batch at hand is about to be sent, and its route is known."""
    batch = relay.batch
    pin = relay.pinning.pin if batch.pin is None else batch.pin
    if pin is None and batch.unparsed:
        pin = Pin.UNPARSED
    frame = notice(relay.front.last_route, pin)
    if not pipelined:
        relay.client.write(frame)
        return
    # Run again, the transaction would have other answers.
    relay.journal.give_up()
    relay.inflight.push(Owed(CLOSE, answer=frame))


def notice(last: LastRoute, pin: Pin | None) -> bytes:
    """NoticeResponse: what SHOW pgproxy.last_route would say, and the pin."""
    target, reason, backend, detail = last.fields()
    sentences = [SENTENCES[REASONS[int(last.code)]]]
    if pin is not None:
        sentences.append(f"The session keeps its server connection: {pin.value}.")
    because = f", {detail}" if detail else ""
    report = PgError(
        SUCCESS,
        f'pgproxy: {target} "{backend}": {reason}{because}',
        severity="NOTICE",
        detail=" ".join(sentences),
    )
    return write.notice_response(report)
