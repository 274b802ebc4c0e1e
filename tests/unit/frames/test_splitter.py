"""The splitter on single streams; tests/properties/test_splitter.py cuts any of them anyhow."""

from typing import Final

import pytest

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.frames.codes import MAX_FRAME_LENGTH
from pgproxy.frames.splitter import (
    BODY,
    HEADER,
    NEED_DATA,
    PASS,
    REFUSE,
    Splitter,
    wants,
)
from pgproxy.routing.batchreader import CLIENT_FRAMES
from pgproxy.servers.connection import SERVER_FRAMES

TABLE: Final = wants(pass_by=b"D", header=b"H", body=b"B")


def frame(kind: str, size: int = 0) -> bytes:
    return write.frame(ord(kind), bytes(size))


def next_of(splitter: Splitter) -> str:
    kind = int(splitter.next())
    return "" if kind == NEED_DATA else chr(kind)


def shown(splitter: Splitter) -> bytes:
    return splitter.data[splitter.start : splitter.end]


def test_the_table_of_what_is_wanted() -> None:
    assert len(TABLE) == 256
    assert (TABLE[ord("D")], TABLE[ord("H")], TABLE[ord("B")]) == (PASS, HEADER, BODY)
    assert TABLE.count(REFUSE) == 253


def test_wanted_frames_are_shown_and_others_are_not() -> None:
    splitter = Splitter(TABLE)
    splitter.feed(frame("D", 3) + frame("B", 2) + frame("D") + frame("H", 1))
    assert next_of(splitter) == "B"
    assert shown(splitter) == frame("B", 2)
    assert next_of(splitter) == "H"
    assert shown(splitter) == frame("H", 1)
    assert next_of(splitter) == ""
    assert splitter.passed == splitter.size


def test_a_chunk_of_whole_frames_is_not_copied() -> None:
    splitter = Splitter(TABLE)
    chunk = frame("D", 1000)
    splitter.feed(chunk)
    assert next_of(splitter) == ""
    splitter.keep = splitter.passed
    assert splitter.data is chunk
    other = frame("D", 1000)
    splitter.feed(other)
    assert splitter.data is other


def test_a_body_is_waited_for_and_a_header_is_not() -> None:
    splitter = Splitter(TABLE)
    splitter.feed(frame("B", 10)[:-1])
    assert next_of(splitter) == ""
    assert splitter.passed == 0
    splitter.feed(b"\0" + frame("H", 10)[:5])
    assert next_of(splitter) == "B"
    assert next_of(splitter) == "H"
    assert splitter.end == splitter.size + 10
    assert splitter.passed == splitter.size


def test_a_header_in_two_parts() -> None:
    splitter = Splitter(TABLE)
    splitter.feed(frame("H")[:4])
    assert next_of(splitter) == ""
    splitter.feed(frame("H")[4:])
    assert next_of(splitter) == "H"


def test_a_large_frame_is_shown_by_its_beginning_and_passes() -> None:
    splitter = Splitter(TABLE, 100)
    stream = frame("B", 1000) + frame("H")
    splitter.feed(stream[:99])
    assert next_of(splitter) == ""
    splitter.feed(stream[99:100])
    assert next_of(splitter) == "B"
    assert splitter.end == 1005
    assert splitter.passed == 100
    splitter.keep = splitter.passed
    splitter.feed(stream[100:600])
    assert next_of(splitter) == ""
    assert splitter.passed == 500
    splitter.keep = splitter.passed
    assert splitter.held == 0
    splitter.feed(stream[600:])
    assert next_of(splitter) == "H"


def test_pieces_of_a_frame_are_gathered_without_joining_each() -> None:
    splitter = Splitter(TABLE, 1 << 20)
    stream = frame("B", 100_000)
    for at in range(0, len(stream) - 1, 1000):
        splitter.feed(stream[at : at + 1000] if at + 1000 < len(stream) else stream[at:-1])
        assert next_of(splitter) == ""
        if at >= 1000:
            assert splitter.data == b"", "joined before the frame can be shown"
    assert splitter.held == len(stream) - 1
    splitter.feed(stream[-1:])
    assert next_of(splitter) == "B"
    assert shown(splitter) == stream


def test_frames_are_shown_again_from_where_it_is_rewound_to() -> None:
    splitter = Splitter(TABLE)
    splitter.feed(frame("H") + frame("B", 1))
    assert next_of(splitter) + next_of(splitter) == "HB"
    splitter.rewind(0)
    assert next_of(splitter) + next_of(splitter) + next_of(splitter) == "HB"


@pytest.mark.parametrize("size", [0, 1, 20])
def test_a_frame_may_be_replaced_by_a_shorter_or_a_longer_one(size: int) -> None:
    splitter = Splitter(TABLE)
    end = frame("H") + frame("B", 7)
    splitter.feed(frame("B", 2) + frame("B", 3) + end + b"H")
    assert next_of(splitter) + next_of(splitter) == "BB"
    splitter.replace(frame("B", size))
    assert shown(splitter) == frame("B", size)
    assert splitter.passed == len(frame("B", 2) + frame("B", size))
    assert next_of(splitter) + next_of(splitter) == "HB"
    assert shown(splitter) == frame("B", 7)
    assert next_of(splitter) == ""
    splitter.keep = splitter.passed
    splitter.feed(frame("H")[1:])
    assert next_of(splitter) == "H"


@pytest.mark.parametrize("length", [0, 3, MAX_FRAME_LENGTH + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", "DHB")
def test_an_impossible_length(kind: str, length: int) -> None:
    splitter = Splitter(TABLE)
    splitter.feed(kind.encode() + length.to_bytes(4, "big"))
    with pytest.raises(PgError, match="invalid message length") as caught:
        splitter.next()
    assert (caught.value.sqlstate, caught.value.severity) == ("08P01", "FATAL")


@pytest.mark.parametrize("length", [4, MAX_FRAME_LENGTH])
def test_a_length_that_is_just_possible(length: int) -> None:
    splitter = Splitter(TABLE)
    splitter.feed(b"H" + length.to_bytes(4, "big"))
    assert next_of(splitter) == "H"


def test_a_type_that_is_not_named_is_refused() -> None:
    splitter = Splitter(TABLE)
    splitter.feed(frame("H") + frame("X"))
    assert next_of(splitter) == "H"
    with pytest.raises(PgError, match="invalid message type 88"):
        splitter.next()


def test_clients_may_send_what_a_client_sends() -> None:
    assert {chr(kind) for kind in range(256) if CLIENT_FRAMES[kind]} == set("BCdcfDEHFPQSX")


def test_servers_may_send_what_a_server_sends() -> None:
    # COPY BOTH (W) belongs to replication, which is refused at log-in.
    assert {chr(kind) for kind in range(256) if SERVER_FRAMES[kind]} >= set(
        "123CDEGHINRSTVZcdnstAKv"
    )


def test_what_is_shown_of_it() -> None:
    splitter = Splitter(TABLE)
    splitter.feed(frame("H"))
    assert repr(splitter) == "<Splitter pos=0 keep=0 size=5 held=0>"


def test_a_frame_in_very_many_pieces_is_shown_whole() -> None:
    text = b"x" * 60_000
    frame = b"Q" + (len(text) + 4).to_bytes(4, "big") + text
    splitter = Splitter(wants(pass_by=b"", header=b"", body=b"Q"), 1 << 20)
    for at in range(0, len(frame), 2):
        splitter.feed(frame[at : at + 2])
        assert splitter.held == min(at + 2, len(frame))
        if at + 2 < len(frame):
            assert splitter.next() == NEED_DATA
    assert splitter.next() == ord("Q")
    assert splitter.data[splitter.start : splitter.end] == frame
