"""Properties of batches: however a client's bytes arrive, the same is sent, owed and decided."""

from dataclasses import dataclass, field
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.protocol.inflight import OWED_QUERY
from pgproxy.protocol.prepared import StatementRegistry
from pgproxy.routing.batch import CUT
from pgproxy.routing.batchreader import BATCH, HELD_BATCH, LEFT, BatchReader
from pgproxy.routing.router import Router

ROUTER: Final = Router()
TEXTS: Final = [
    b"SELECT 1",
    b"INSERT INTO t VALUES (1)",
    b"SET work_mem = 1",
    b"BEGIN",
    b"not sql",
    b"SHOW pgproxy.route",
    b"COPY t FROM STDIN",
]

names = st.sampled_from([b"", b"a", b"b", b"pgproxy_1", b"pgproxy_"])
texts = st.sampled_from(TEXTS)
values = st.sampled_from([b"", b"x" * 10, b"x" * 66_000])


def bind(portal: bytes, statement: bytes, value: bytes) -> bytes:
    parameters = b"\0\0\0\1" + write.int32(len(value)) + value + b"\0\0"
    return write.frame(ord("B"), portal + b"\0" + statement + b"\0" + parameters)


def about(kind: str, target: bytes, name: bytes) -> bytes:
    return write.frame(ord(kind), target + name + b"\0")


EXECUTE: Final = write.frame(ord("E"), b"\0\0\0\0\0")
messages = st.one_of(
    st.builds(write.parse, names, texts, st.just(b"\0\0")),
    st.builds(bind, st.sampled_from([b"", b"p"]), names, values),
    st.builds(about, st.just("D"), st.sampled_from([b"S", b"P"]), names),
    st.builds(about, st.just("C"), st.sampled_from([b"S", b"P"]), names),
    st.just(EXECUTE),
    st.just(EXECUTE),
)
ends = st.one_of(st.just(write.SYNC), st.just(write.SYNC), st.builds(write.query, texts))
batches = st.builds(
    lambda inside, end: b"".join(inside) + end, st.lists(messages, max_size=6), ends
)
others = st.sampled_from(
    [
        write.FLUSH,
        write.frame(ord("d"), b"1\n" * 5),
        write.frame(ord("d"), b"1\n" * 40_000),
        write.frame(ord("c"), b""),
        write.frame(ord("f"), b"no\0"),
        write.frame(ord("F"), b"\0\0\0\1" + b"\0" * 6),
    ]
)
whole = st.lists(batches, max_size=5).map(b"".join)
anything = st.lists(st.one_of(batches, messages, others), max_size=12).map(b"".join)


@st.composite
def cut(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    step = draw(st.sampled_from([0, 1, 3, 4096]))
    if step and len(stream) < 5000 * step:
        return [stream[at : at + step] for at in range(0, len(stream), step)]
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    return [
        stream[start:end]
        for start, end in zip([0, *places], [*places, len(stream)], strict=True)
        if end > start
    ]


@dataclass
class Sender:
    """Takes batches as the relay does, for a server that has every statement."""

    reader: BatchReader = field(default_factory=lambda: BatchReader(ROUTER, StatementRegistry()))
    sent: bytes = b""
    owed: list[str] = field(default_factory=list)
    batches: list[tuple[object, ...]] = field(default_factory=list)
    left: bool = False
    most_held: int = 0

    def feed(self, chunk: bytes) -> None:
        reader = self.reader
        reader.feed(chunk)
        while not self.left:
            found = int(reader.read())
            splitter = reader.input
            start = int(splitter.start) if found == LEFT else int(splitter.passed)
            if found == BATCH or reader.batch.open:
                start = int(reader.batch.start)
            if start > splitter.keep:
                self.sent += splitter.data[splitter.keep : start]
                splitter.keep = start
            if found != BATCH:
                self.left = found == LEFT
                break
            self._take()
        self.most_held = max(self.most_held, reader.input.held)

    def _take(self) -> None:
        batch = self.reader.batch
        data, done = batch.input.data, int(batch.start)
        before = len(self.sent)
        for edit in [] if batch.simple else batch.edits:
            assert done <= edit.start <= edit.end <= batch.end
            assert 0 <= edit.at < len(batch.owed)
            self.sent += data[done : int(edit.start)] + edit.frame
            done = int(edit.end)
        self.sent += data[done : int(batch.end)]
        replies = [OWED_QUERY] if batch.simple else batch.owed
        owed = [f"{reply!r}{reply.answer!r}{reply.error!r}" for reply in replies]
        self.owed += owed
        self.batches.append(
            (
                self.sent[before:],
                owed,
                int(batch.ending),
                int(batch.target),
                batch.decision and batch.decision.reason,
                batch.pin,
                int(batch.own),
                batch.sql(),
                (batch.executes, batch.discards, batch.known_write, batch.unparsed),
            )
        )
        if batch.simple:
            batch.statements.unnamed = None  # a Query drops it
        batch.continues = batch.ending == CUT
        batch.done()


def fed(chunks: list[bytes]) -> Sender:
    sender = Sender()
    for chunk in chunks:
        sender.feed(chunk)
    return sender


@given(whole, st.data())
def test_whole_batches_are_the_same_however_they_arrive(stream: bytes, data: st.DataObject) -> None:
    at_once = fed([stream])
    in_pieces = fed(data.draw(cut(stream)))
    assert in_pieces.sent == at_once.sent
    assert in_pieces.owed == at_once.owed
    if all(batch[2] != CUT for batch in at_once.batches + in_pieces.batches):
        assert in_pieces.batches == at_once.batches
    for sender in (at_once, in_pieces):
        assert sender.reader.input.held == 0
        assert not sender.reader.batch.open
        assert not sender.reader.batch.continues


@given(anything, st.data())
def test_cut_batches_send_and_owe_the_same_however_they_arrive(
    stream: bytes, data: st.DataObject
) -> None:
    stream += write.SYNC
    at_once = fed([stream])
    in_pieces = fed(data.draw(cut(stream)))
    assert in_pieces.sent == at_once.sent
    assert in_pieces.owed == at_once.owed
    assert in_pieces.reader.input.held == 0


@given(anything, st.data())
def test_what_is_held_is_bounded(stream: bytes, data: st.DataObject) -> None:
    chunks = data.draw(cut(stream))
    largest = max([len(chunk) for chunk in chunks], default=0)
    assert fed(chunks).most_held <= 2 * HELD_BATCH + largest


@given(anything, anything)
def test_nothing_is_read_behind_terminate(before: bytes, behind: bytes) -> None:
    sender = fed([before + write.TERMINATE + behind])
    assert sender.left
    without = fed([before])
    assert without.sent.startswith(sender.sent)
    assert without.owed[: len(sender.owed)] == sender.owed


@given(
    st.lists(
        st.one_of(
            messages,
            ends,
            st.builds(
                write.frame, st.sampled_from(sorted(b"QPBDECSHFdcfX")), st.binary(max_size=12)
            ),
        ),
        max_size=6,
    ).map(b"".join),
    st.data(),
)
def test_a_message_that_is_none_is_a_violation_and_nothing_else(
    stream: bytes, data: st.DataObject
) -> None:
    refusals: list[PgError] = []
    chunks = data.draw(cut(stream))
    try:
        fed(chunks)
    except PgError as error:
        refusals.append(error)
    assert all((error.severity, error.sqlstate) == ("FATAL", "08P01") for error in refusals)


@given(whole)
def test_a_client_that_leaves_frees_its_statements(stream: bytes) -> None:
    sender = fed([stream])
    registry = sender.reader.statements.registry
    assert len(registry) <= len(sender.reader.statements.named)
    sender.reader.statements.forget_all()
    assert len(registry) == 0


@given(whole)
def test_what_is_undone_leaves_the_names_as_they_were(stream: bytes) -> None:
    sender = Sender()
    reader = sender.reader
    reader.feed(stream)
    while reader.read() == BATCH:
        reader.input.keep = reader.batch.end
        after = dict(reader.statements.named)
        reader.statements.undo(list(reader.batch.owed))
        # Undone, and done again: as if it had been read once.
        reader.input.rewind(int(reader.batch.start))
        reader.input.keep = reader.batch.start
        reader.batch.open = False
        reader.read()
        assert {name: one.sql for name, one in reader.statements.named.items()} == {
            name: one.sql for name, one in after.items()
        }
        reader.batch.done()
    assert sum(one.users for one in set(reader.statements.named.values())) == len(
        reader.statements.named
    )
