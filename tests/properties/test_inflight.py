"""Properties of the replies owed: a client behind the proxy is answered as by PostgreSQL itself.

`Server` is PostgreSQL's side of "Message Flow" in small: what it answers to which message, that it
ignores everything up to Sync after an error, and what it reads in copy-in mode. What becomes of
each message (its plan) is drawn beforehand.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from hypothesis import given, target
from hypothesis import strategies as st

from pgproxy.frames import write
from pgproxy.protocol.inflight import FORWARD, REPLACE, Inflight, Owed
from pgproxy.protocol.states import (
    BIND,
    CLOSE,
    COPY_END,
    DESCRIBE,
    EXECUTE,
    FUNCTION_CALL,
    PARSE,
    QUERY,
    SYNC,
)

COPY_DATA: Final = 100  # never answered, so not one of the kinds owed
ANSWER: Final = {PARSE: write.PARSE_COMPLETE, CLOSE: write.CLOSE_COMPLETE}

# What one statement answers, by its plan; copy_in answers the rest when the copy ends.
STATEMENT: Final = {
    "rows": b"DDC",
    "command": b"C",
    "empty": b"I",
    "suspended": b"Ds",
    "copy_out": b"HddcC",
    "copy_in": b"G",
    "copy_broken": b"G",
    "copy_unread": b"GE",  # it fails before it reads anything
    "error": b"E",
    "late_error": b"DE",
    "notice": b"NC",
    "setting": b"CS",
}
EXTENDED: Final = [
    *sorted(STATEMENT.keys() - {"copy_unread"}),
    *["copy_in", "copy_broken"] * 4,
]
SIMPLE: Final = [plan for plan in EXTENDED if plan != "suspended"]
COMPLETE: Final = {PARSE: b"1", BIND: b"2", CLOSE: b"3"}
DESCRIBED: Final = {"rows": b"T", "command": b"n", "statement": b"tT"}


@dataclass(eq=False)
class Message:
    kind: int
    plan: tuple[str, ...] = ("command",)
    hidden: bool = False  # the proxy's own
    answered_by_us: bool = False  # the proxy does not send it
    owed: Owed | None = None
    took_effect: bool = False

    def __repr__(self) -> str:
        marks = "h" * self.hidden + "a" * self.answered_by_us
        return f"{self.kind}{marks}{','.join(self.plan)}"


@dataclass
class Server:
    """Messages go in by `read`, the types of the replies come out."""

    ignoring: bool = False  # everything up to Sync
    copy: Message | None = None  # whose statement reads copy data
    left: deque[str] = field(default_factory=deque)  # statements of that Query after the copy

    def read(self, message: Message) -> bytes:
        kind = message.kind
        if self.copy is not None:
            return self._read_in_copy_mode(message)
        if self.ignoring:
            if kind != SYNC:
                return b""
            self.ignoring = False
        if kind in (COPY_END, COPY_DATA):
            return b""  # left over from a copy that has failed
        if kind == SYNC:
            return b"EZ" if message.plan == ("error",) else b"Z"
        if kind == FUNCTION_CALL:
            return b"EZ" if message.plan == ("error",) else b"VZ"
        if kind == QUERY:
            return self._query(message, deque(message.plan))
        if message.plan == ("error",):
            self.ignoring = True
            return b"E"
        message.took_effect = True
        if kind == DESCRIBE:
            return DESCRIBED[message.plan[0]]
        if kind == EXECUTE:
            replies = STATEMENT[message.plan[0]]
            self.ignoring = replies.endswith(b"E")
            self.copy = message if replies == b"G" else None
            return replies
        return COMPLETE[kind]

    def _query(self, query: Message, left: deque[str]) -> bytes:
        replies = b""
        while left:
            answer = STATEMENT[left.popleft()]
            replies += answer
            if answer == b"G":
                self.copy = query
                self.left = left
                return replies
            if answer.endswith(b"E"):
                break
        return replies + b"Z"

    def _read_in_copy_mode(self, message: Message) -> bytes:
        copy = self.copy
        assert copy is not None
        assert message.kind in (COPY_END, COPY_DATA, SYNC), "would end the connection"
        if message.kind == SYNC:
            return b""
        plan = "copy_broken" if copy.plan == ("copy_broken",) else "copy_in"
        if copy.kind == QUERY:
            # Which of its statements this is, is known by those that are left.
            plan = copy.plan[len(copy.plan) - len(self.left) - 1]
        failed = plan == "copy_broken" or message.plan == ("error",)
        if message.kind == COPY_DATA and not failed:
            return b""
        self.copy = None
        if copy.kind == EXECUTE:
            self.ignoring = failed
            return b"E" if failed else b"C"
        if failed:
            return b"EZ"
        return b"C" + self._query(copy, self.left)

    @property
    def is_ready(self) -> bool:
        return not self.ignoring and self.copy is None


def copy_contents(draw: st.DrawFn, copies: int) -> list[Message]:
    contents: list[Message] = []
    for _ in range(copies):
        contents += [Message(COPY_DATA)] * draw(st.integers(0, 1))
        contents.append(Message(COPY_END, (draw(st.sampled_from(["command", "error"])),)))
    return contents


fate = st.sampled_from(["command"] * 5 + ["error"])


@st.composite
def simple(draw: st.DrawFn) -> list[Message]:
    hidden = [Message(QUERY, hidden=True)] if draw(st.integers(0, 4)) == 0 else []
    if draw(st.integers(0, 5)) == 0:
        return [*hidden, Message(FUNCTION_CALL, (draw(fate),))]
    plan = tuple(draw(st.lists(st.sampled_from(SIMPLE), min_size=1, max_size=3)))
    copies = sum(name in ("copy_in", "copy_broken") for name in plan)
    return [*hidden, Message(QUERY, plan), *copy_contents(draw, copies)]


@st.composite
def extended(draw: st.DrawFn) -> list[Message]:
    messages = [Message(QUERY, hidden=True)] if draw(st.integers(0, 4)) == 0 else []
    for kind in draw(
        st.lists(st.sampled_from([EXECUTE, PARSE, BIND, DESCRIBE, CLOSE, EXECUTE]), max_size=6)
    ):
        if kind == EXECUTE:
            plan = draw(st.sampled_from(EXTENDED))
            messages.append(Message(EXECUTE, (plan,)))
            if plan in ("copy_in", "copy_broken"):
                # libpq sends Sync here; the server reads it in copy-in mode.
                messages += [Message(SYNC)] * draw(st.integers(0, 1))
                messages += copy_contents(draw, 1)
        elif kind == DESCRIBE:
            messages.append(
                Message(DESCRIBE, (draw(st.sampled_from([*sorted(DESCRIBED), "error"])),))
            )
        else:
            answered_by_us = kind in ANSWER and draw(st.booleans())
            if kind == BIND and draw(st.booleans()):
                messages.append(Message(CLOSE, hidden=True))
                messages.append(Message(PARSE, hidden=True))
            plan = "command" if answered_by_us else draw(fate)
            messages.append(Message(kind, (plan,), answered_by_us=answered_by_us))
    end = draw(st.sampled_from([SYNC] * 6 + [QUERY]))
    if end == SYNC:
        return [*messages, Message(SYNC, (draw(fate),))]
    # A Query where Sync should stand; only without an error before it does anything happen.
    return [*messages, Message(QUERY, ("rows",)), Message(SYNC)]


conversations = st.lists(st.one_of(simple(), extended()), min_size=1, max_size=6).map(
    lambda parts: [message for part in parts for message in part]
)


@st.composite
def libpq_copy(draw: st.DrawFn) -> list[Message]:
    """With a Sync behind Execute and another one behind the data; and what may follow."""
    copy = Message(EXECUTE, (draw(st.sampled_from(["copy_in", "copy_broken", "copy_unread"])),))
    messages = [copy, Message(SYNC), *copy_contents(draw, 1), Message(SYNC)]
    kinds = draw(st.sampled_from([(), (QUERY,), (PARSE, BIND, SYNC), (SYNC,), (FUNCTION_CALL,)]))
    return [*messages, *[Message(kind) for kind in kinds]]


class Proxy:
    """Inflight between a client and a `Server`, with bytes on their way in both directions."""

    def __init__(self) -> None:
        self.inflight = Inflight()
        self.server = Server()
        self.messages: deque[Message] = deque()
        self.replies: deque[int] = deque()
        self.client = b""  # types of the replies that reached it
        self.void: list[Owed] = []
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)
        if not message.answered_by_us:
            self.messages.append(message)
        if message.kind != COPY_DATA:
            message.owed = Owed(
                message.kind,
                hidden=message.hidden,
                answer=ANSWER[message.kind] if message.answered_by_us else b"",
                name=b"statement",
            )
            self.inflight.push(message.owed)
            self.after()

    def process(self) -> None:
        if self.messages:
            self.replies.extend(self.server.read(self.messages.popleft()))

    def deliver(self) -> None:
        if self.replies:
            reply = self.replies.popleft()
            verdict = self.inflight.reply(reply)
            assert verdict != REPLACE
            if verdict == FORWARD:
                self.client += bytes((reply,))
            self.after()

    def after(self) -> None:
        answers = self.inflight.due()
        self.client += answers[::5]  # each is five bytes, the first its type
        self.void += self.inflight.take_void()

    def finish(self) -> None:
        while self.messages or self.replies:
            self.process()
            self.deliver()

    def owes(self) -> bool:
        """Whether anything more will come, or the next message will not be read as usual."""
        server = Server(self.server.ignoring, self.server.copy, deque(self.server.left))
        effects = [message.took_effect for message in self.messages]
        replies = b"".join([server.read(message) for message in self.messages])
        for message, effect in zip(self.messages, effects, strict=True):
            message.took_effect = effect
        owed = (bytes(self.replies) + replies).translate(None, delete=b"NS")  # asynchronous
        return bool(owed) or not server.is_ready


def direct(messages: list[Message]) -> bytes:
    """What PostgreSQL itself answers to the client's messages."""
    server = Server()
    return b"".join([server.read(message) for message in messages if not message.hidden])


def copied(messages: list[Message]) -> list[Message]:
    return [
        Message(message.kind, message.plan, message.hidden, message.answered_by_us)
        for message in messages
    ]


@given(conversations, st.data())
def test_the_client_is_answered_as_by_postgresql_itself(
    messages: list[Message], data: st.DataObject
) -> None:
    proxy = Proxy()
    waits = data.draw(st.booleans(), "waits for every answer")
    for message in messages:
        proxy.send(message)
        assert proxy.inflight.settled == (not proxy.owes())
        if waits:
            proxy.finish()
            continue
        steps = st.sampled_from([(0, 0), (0, 0), (1, 0), (1, 3), (9, 0), (9, 2), (9, 99)])
        processed, delivered = data.draw(steps)
        for _ in range(processed):
            proxy.process()
        for _ in range(delivered):
            proxy.deliver()
            assert proxy.inflight.settled == (not proxy.owes())
    proxy.finish()
    # Notices and settings may come at any moment: before or after an answer of ours.
    answers = direct(copied(messages))
    assert proxy.client.translate(None, delete=b"NS") == answers.translate(None, delete=b"NS")
    assert sorted(proxy.client) == sorted(answers)
    assert proxy.inflight.settled
    assert len(proxy.inflight) == 0
    assert proxy.server.is_ready
    target(float(len(messages)))


@given(st.lists(libpq_copy(), min_size=1, max_size=5), st.data())
def test_a_sync_during_a_copy_is_answered_or_not(
    parts: list[list[Message]], data: st.DataObject
) -> None:
    messages = [message for part in parts for message in part]
    proxy = Proxy()
    for message in messages:
        proxy.send(message)
        assert proxy.inflight.doubtful or proxy.inflight.settled == (not proxy.owes())
        processed, delivered = data.draw(st.sampled_from([(0, 0), (1, 0), (1, 3), (9, 2), (9, 99)]))
        for _ in range(processed):
            proxy.process()
        for _ in range(delivered):
            proxy.deliver()
            assert proxy.inflight.doubtful or proxy.inflight.settled == (not proxy.owes())
    proxy.finish()
    assert proxy.client.translate(None, delete=b"NS") == direct(copied(messages)).translate(
        None, delete=b"NS"
    )
    assert proxy.inflight.settled
    assert proxy.server.is_ready


@given(conversations)
def test_what_was_void_is_told_once_and_nothing_else_is(messages: list[Message]) -> None:
    proxy = Proxy()
    for message in messages:
        proxy.send(message)
    proxy.finish()
    assert len(set(map(id, proxy.void))) == len(proxy.void)
    for message in proxy.sent:
        if message.kind in (PARSE, CLOSE) and not message.answered_by_us:
            assert message.took_effect != (message.owed in proxy.void), message
