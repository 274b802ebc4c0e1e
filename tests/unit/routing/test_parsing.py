"""Texts to trees."""

import pytest

from pgproxy.routing.parsing import parse, parse_with_places, statements_of


def test_each_statement_has_its_tree_and_its_text() -> None:
    parts = parse_with_places(b"SELECT 1;\n UPDATE t SET a = 2")
    assert [(next(iter(tree)), text.strip()) for tree, text in parts] == [
        ("SelectStmt", "SELECT 1"),
        ("UpdateStmt", "UPDATE t SET a = 2"),
    ]


def test_bytes_that_are_no_utf_8_are_letters() -> None:
    text, trees = statements_of(b"SELECT '\xe4'")
    assert text == "SELECT 'ä'".encode()
    assert len(trees) == 1


def test_a_zero_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="zero byte"):
        parse(b"SELECT\x00 1")
