"""What the supervisor and a worker say to each other: messages over a pair of sockets.

A message is a JSON object behind its length. It is *told*, and arrives in order; or *asked*, and
answered some time later, unless the one who asked stops waiting: then what the other does about it is
cancelled. With the end of either process all that was asked ends with `ChannelClosedError`.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog

from pgproxy.errors import INTERNAL_ERROR, PgError

_log = structlog.stdlib.get_logger()

Body = dict[str, Any]
OnTold = Callable[[Body], None]
OnAsked = Callable[[Body], Awaitable[object]]

# Bytes of the length in front of a message.
LENGTH: Final = 4


class ChannelClosedError(Exception):
    """The other process has ended."""

    def __init__(self) -> None:
        super().__init__("the other process has ended")


class Channel(asyncio.Protocol):
    """One end. `told` and `asked` say what to do with messages of each kind; `on_end` is called once,
    when either end is closed; a message that cannot be dealt with closes it."""

    def __init__(
        self,
        *,
        told: Mapping[str, OnTold],
        asked: Mapping[str, OnAsked],
        on_end: Callable[[], None],
    ) -> None:
        self._told: Final = told
        self._asked: Final = asked
        self._on_end: Final = on_end
        self._transport: Any = None  # uvloop's derive from no class of asyncio's
        self._buffer = bytearray()
        self._last = 0
        self._questions: Final[dict[int, asyncio.Future[object]]] = {}
        self._work: Final[dict[int, asyncio.Task[None]]] = {}

    async def open(self, end: socket.socket) -> None:
        """Begins to talk over one socket of a pair."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)

    @property
    def is_closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def tell(self, kind: str, **body: object) -> None:
        """To one who has ended nothing is said."""
        self._send({"kind": kind, **body})

    async def ask(self, kind: str, **body: object) -> Any:
        """Raises `PgError` if that is the answer, and `ChannelClosedError`."""
        if self.is_closed:
            raise ChannelClosedError
        self._last += 1
        number = self._last
        answer = asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        self._send({"kind": kind, "question": number, **body})
        try:
            return await answer
        finally:
            del self._questions[number]
            if not answer.done() or answer.cancelled():
                self._send({"abandoned": number})

    # --- inside -------------------------------------------------------------------------------

    def _send(self, message: Body) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
        self._transport.write(len(text).to_bytes(LENGTH) + text)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self.is_closed:
            return
        self._buffer += data
        try:
            self._receive_all()
        except Exception:  # noqa: BLE001 - a bug of ours: what follows may build on what was not done
            _log.exception("channel_failed")
            self._buffer.clear()
            self.close()

    def _receive_all(self) -> None:
        buffer = self._buffer
        start = 0
        while len(buffer) - start >= LENGTH:
            end = start + LENGTH + int.from_bytes(buffer[start : start + LENGTH])
            if len(buffer) < end:
                break
            message = json.loads(buffer[start + LENGTH : end].decode("utf-8", "surrogatepass"))
            start = end
            self._receive(message)
        del buffer[:start]

    def connection_lost(self, error: Exception | None) -> None:
        for answer in self._questions.values():
            if not answer.done():
                answer.set_exception(ChannelClosedError())
        for task in self._work.values():
            task.cancel()
        self._on_end()

    def _receive(self, message: Body) -> None:
        if "answered" in message:
            self._take_answer(message)
        elif "abandoned" in message:
            task = self._work.get(message["abandoned"])
            if task is not None:
                task.cancel()
        elif "question" in message:
            number = message.pop("question")
            task = asyncio.get_running_loop().create_task(self._answer(number, message))
            self._work[number] = task
            task.add_done_callback(lambda _: self._work.pop(number))
        else:
            self._told[message.pop("kind")](message)

    def _take_answer(self, message: Body) -> None:
        answer = self._questions.get(message["answered"])
        if answer is None or answer.done():
            return
        error = message.get("error")
        if error is None:
            answer.set_result(message["result"])
        else:
            answer.set_exception(PgError(**error))

    async def _answer(self, number: int, message: Body) -> None:
        reply: Body = {"answered": number}
        try:
            reply["result"] = await self._asked[message.pop("kind")](message)
        except PgError as error:
            reply["error"] = fields(error)
        except ChannelClosedError:  # of another worker
            reply["error"] = fields(PgError(INTERNAL_ERROR, "a worker process has just ended"))
        except Exception:  # noqa: BLE001 - a bug of ours, and the other one waits
            _log.exception("answer_failed")
            reply["error"] = fields(PgError(INTERNAL_ERROR, "internal error"))
        self._send(reply)


def fields(error: PgError) -> dict[str, str]:
    """What it is made of."""
    return {
        "sqlstate": error.sqlstate,
        "message": error.message,
        "severity": error.severity,
        "detail": error.detail,
        "hint": error.hint,
        "routine": error.routine,
    }
