"""What proxies tell each other, and what is made of whatever else comes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.peers.word import Address, Word, read_address, read_word, word_text

WORD = Word("pod-1-ab", 255, 8, {"primary": 10, "[::1]:5432": 0}, draining=True)


def test_a_word_arrives_as_it_was_sent() -> None:
    assert read_word(word_text(WORD).encode()) == WORD


def test_what_a_newer_version_adds_is_left_out() -> None:
    said = {**json.loads(word_text(WORD)), "more": [1]}
    assert read_word(json.dumps(said).encode()) == WORD


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", ""),
        ("id", 7),
        ("id", "x" * 301),
        ("instance", 256),
        ("instance", -1),
        ("instance", True),
        ("instance", None),
        ("beside", "4"),
        ("beside", 1 << 40),
        ("held", [1]),
        ("held", {"p": -1}),
        ("held", {"p": 1.5}),
        ("held", None),
        ("draining", 1),
    ],
)
def test_what_is_none(key: str, value: object) -> None:
    said = {**json.loads(word_text(WORD)), key: value}
    assert read_word(json.dumps(said).encode()) is None
    del said[key]
    assert read_word(json.dumps(said).encode()) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_borne(body: bytes) -> None:
    assert read_word(body) is None


@given(
    st.dictionaries(
        st.sampled_from(["id", "instance", "beside", "held", "draining"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=4,
        ),
    )
)
def test_any_json_is_borne(said: dict[str, Any]) -> None:
    word = read_word(json.dumps(said).encode())
    assert word is None or read_word(word_text(word).encode()) == word


def test_depth_is_borne() -> None:
    assert read_word(b"[" * 100_000) is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:9930", Address("10.0.0.1", 9930)),
        ("pgproxy-0.pgproxy:1", Address("pgproxy-0.pgproxy", 1)),
        ("[fd00::1]:9930", Address("fd00::1", 9930)),
        ("fd00::1:9930", None),
        ("host", None),
        (":9930", None),
        ("host:", None),
        ("host:0", None),
        ("host:65536", None),
        ("host:٣", None),
    ],
)
def test_addresses(text: str, address: Address | None) -> None:
    assert read_address(text) == address
    if address is not None:
        assert str(address) == text
