"""Properties of the splitter: however a stream is cut, the same is seen of it and it all passes."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.frames.splitter import NEED_DATA, Splitter, wants

PREFIX: Final = 32
# D passes, H is noticed, B is read; E marks where an owner that gathers lets go.
TABLE: Final = wants(pass_by=b"D", header=b"HE", body=b"B")

bodies = st.one_of(
    st.binary(max_size=12),
    st.integers(0, 4 * PREFIX).map(bytes),
    st.sampled_from([PREFIX - 6, PREFIX - 5, PREFIX - 4, PREFIX, 200]).map(bytes),
)
frames = st.builds(write.frame, st.sampled_from(sorted(b"DHEBB")), bodies)
refused = st.builds(write.frame, st.sampled_from(sorted(b"A\x00\xffd")), bodies)
impossible = st.builds(
    lambda kind, length: bytes((kind,)) + length.to_bytes(4, "big"),
    st.sampled_from(sorted(b"DHEB")),
    st.one_of(st.integers(0, 3), st.integers(0x3FFFFFFF, 0xFFFFFFFF)),
)
streams = st.lists(frames, max_size=12).map(b"".join)


@st.composite
def cut(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """The stream in pieces: few, even or of single bytes."""
    step = draw(st.sampled_from([0, 0, 1, 2, 5, 7, 31]))
    if step:
        return [stream[at : at + step] for at in range(0, len(stream), step)]
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    return [
        stream[start:end]
        for start, end in zip([0, *places], [*places, len(stream)], strict=True)
        if end > start
    ]


class Owner:
    """Notes what is shown, and sends on what has passed; with `gathers` only up to the last E."""

    def __init__(self, *, gathers: bool = False) -> None:
        self.splitter = Splitter(TABLE, PREFIX)
        self.gathers = gathers
        self.seen: list[tuple[int, int, bytes]] = []
        self.sent = b""
        self.most_held = 0

    def feed(self, chunk: bytes) -> None:
        splitter = self.splitter
        splitter.feed(chunk)
        may_send = int(splitter.keep)
        while (kind := int(splitter.next())) != NEED_DATA:
            start, end = int(splitter.start), int(splitter.end)
            body = b""
            if kind == ord("B"):
                body = splitter.data[start : min(end, start + PREFIX)]
                assert len(body) == min(end - start, PREFIX), "shown before it is there"
            self.seen.append((kind, end - start, body))
            if kind == ord("E"):
                may_send = min(end, int(splitter.size))
        if not self.gathers:
            may_send = int(splitter.passed)
        if may_send > splitter.keep:
            self.sent += splitter.data[splitter.keep : may_send]
            splitter.keep = may_send
        self.most_held = max(self.most_held, splitter.held)

    def feed_all(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self.feed(chunk)


def as_sent(stream: bytes) -> list[tuple[int, int, bytes]]:
    """What must be shown of a stream of whole frames."""
    shown: list[tuple[int, int, bytes]] = []
    at = 0
    while at < len(stream):
        size = 1 + int.from_bytes(stream[at + 1 : at + 5], "big")
        body = stream[at : at + min(size, PREFIX)] if stream[at] == ord("B") else b""
        if stream[at] != ord("D"):
            shown.append((stream[at], size, body))
        at += size
    return shown


@given(streams, st.data())
def test_the_same_frames_are_shown_and_the_same_bytes_pass(
    stream: bytes, data: st.DataObject
) -> None:
    owner = Owner()
    owner.feed_all(data.draw(cut(stream)))
    assert owner.seen == as_sent(stream)
    assert owner.sent == stream
    assert owner.splitter.held == 0


@given(streams, st.data())
def test_no_more_is_held_than_is_worth_buffering(stream: bytes, data: st.DataObject) -> None:
    owner = Owner()
    owner.feed_all(data.draw(cut(stream)))
    assert owner.most_held < PREFIX


@given(streams, st.data())
def test_an_owner_may_keep_as_much_as_it_likes(stream: bytes, data: st.DataObject) -> None:
    stream += write.frame(ord("E"), b"")
    owner = Owner(gathers=True)
    owner.feed_all(data.draw(cut(stream)))
    assert owner.seen == as_sent(stream)
    # What follows a large E passes with what the next E lets go.
    assert owner.sent == stream
    assert owner.splitter.held == 0


@given(streams, st.one_of(refused, impossible), st.binary(max_size=20), st.data())
def test_what_is_no_frame_is_refused_where_it_stands(
    stream: bytes, wrong: bytes, rest: bytes, data: st.DataObject
) -> None:
    owner = Owner()
    with pytest.raises(PgError) as caught:
        owner.feed_all(data.draw(cut(stream + wrong + rest)))
    assert (caught.value.sqlstate, caught.value.severity) == ("08P01", "FATAL")
    assert owner.seen == as_sent(stream)
    assert (stream + wrong + rest).startswith(owner.sent)


@given(st.binary(max_size=300), st.data())
def test_any_bytes_are_either_refused_or_passed(stream: bytes, data: st.DataObject) -> None:
    whole, pieces = Owner(), Owner()
    refusals = []
    for owner, chunks in ((whole, [stream]), (pieces, data.draw(cut(stream)))):
        try:
            owner.feed_all(chunks)
            refusals.append("")
        except PgError as error:
            refusals.append(error.message)
    assert refusals[0] == refusals[1]
    assert whole.seen == pieces.seen
    if not refusals[0]:
        assert whole.sent == pieces.sent
        assert stream.startswith(whole.sent)
