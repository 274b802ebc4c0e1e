"""The tables hold what the manual says, and the pictures show the tables."""

import re
from typing import Final

import pytest

from pgproxy.frames import codes
from pgproxy.protocol import states
from pgproxy.protocol.states import (
    ANSWERED,
    ASYNCHRONOUS,
    COPY_END,
    FAILED,
    FREE,
    GONE,
    LEASE_MOVE,
    LEASE_MOVES,
    LEASED,
    OUT_OF_ORDER,
    OWED_KINDS,
    OWED_NAMES,
    PHASE_NAMES,
    PHASES,
    READY,
    REPLIES,
    REPLY_EFFECT,
    SETTLING,
    STAYS,
    WAITING,
    lease_mermaid,
    replies_markdown,
)

BACKEND: Final = {
    value for name, value in vars(codes).items() if name.startswith("B_") and value < 256
}
# What a server sends in a log-in only, or in replication only.
NEVER_OWED: Final = {
    codes.B_AUTHENTICATION,
    codes.B_BACKEND_KEY_DATA,
    codes.B_NEGOTIATE_PROTOCOL_VERSION,
    codes.B_COPY_BOTH_RESPONSE,
}


@pytest.mark.parametrize("owed", sorted(REPLIES), ids=lambda owed: OWED_NAMES[owed])
def test_the_hot_table_is_the_readable_one(owed: int) -> None:
    for reply in range(256):
        expected = REPLIES[owed].get(reply, STAYS if reply in ASYNCHRONOUS else OUT_OF_ORDER)
        assert REPLY_EFFECT[owed * 256 + reply] == expected, chr(reply)


def test_nothing_answers_what_is_no_message_of_ours() -> None:
    for owed in range(OWED_KINDS):
        if owed not in REPLIES:
            assert not any(REPLY_EFFECT[owed * 256 : owed * 256 + 256]), owed
    assert COPY_END not in REPLIES


def test_every_reply_of_a_server_answers_something_or_comes_at_any_time() -> None:
    answers = {reply for replies in REPLIES.values() for reply in replies}
    assert answers | set(ASYNCHRONOUS) == BACKEND - NEVER_OWED
    assert not answers & set(ASYNCHRONOUS)


@pytest.mark.parametrize("owed", sorted(REPLIES), ids=lambda owed: OWED_NAMES[owed])
def test_every_message_can_fail_and_can_be_answered(owed: int) -> None:
    replies = REPLIES[owed]
    assert codes.B_ERROR_RESPONSE in replies
    assert {ANSWERED, READY} & set(replies.values())
    # Only where ReadyForQuery ends the answer does an error leave it owed.
    assert (replies[codes.B_ERROR_RESPONSE] == FAILED) == (codes.B_READY_FOR_QUERY not in replies)


def test_the_lease_moves_are_the_readable_ones() -> None:
    for old in range(PHASES):
        for new in range(PHASES):
            assert LEASE_MOVE[old * PHASES + new] == ((old, new) in LEASE_MOVES)


def test_a_client_that_is_gone_stays_gone_and_can_always_go() -> None:
    assert not any(old == GONE for old, _ in LEASE_MOVES)
    assert {old for old, new in LEASE_MOVES if new == GONE} == {FREE, WAITING, LEASED, SETTLING}
    # What a client waits for can only come or not; it does not settle what it does not have.
    assert (WAITING, SETTLING) not in LEASE_MOVES
    assert set(PHASE_NAMES) == set(range(PHASES))


def test_the_picture_of_replies_has_a_row_for_each() -> None:
    rows = re.findall(r"^\| (\w+) \| (\w+) \| ([\w -]+) \|$", replies_markdown(), re.MULTILINE)
    assert len(rows) == sum(len(replies) for replies in REPLIES.values())
    assert ("Execute", "PortalSuspended", "answered") in rows
    assert ("Query", "ErrorResponse", "stays owed") in rows
    assert ("Execute", "CopyInResponse", "copy-in begins") in rows
    assert ("Sync", "ReadyForQuery", "ready") in rows


def test_the_picture_of_the_lease_has_an_arrow_for_each_move() -> None:
    arrows = re.findall(r"^ +(\w+) --> (\w+): (.+)$", lease_mermaid(), re.MULTILINE)
    assert arrows == [
        (PHASE_NAMES[old], PHASE_NAMES[new], why) for (old, new), why in LEASE_MOVES.items()
    ]


def test_the_numbers_of_messages_and_effects_differ() -> None:
    effects = [states.OUT_OF_ORDER, STAYS, ANSWERED, FAILED, READY, states.COPY_IN]
    assert len(set(effects)) == len(effects)
    assert max(REPLIES) < OWED_KINDS
