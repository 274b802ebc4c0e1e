"""A text -> the trees of its statements, by PostgreSQL's own grammar. PURE."""

import json

from pglast.parser import parse_sql_json

from pgproxy.routing.reads import Tree


def parse(sql: bytes) -> list[Tree]:
    """The statements' trees. Raises ParseError, RecursionError, ValueError."""
    return [statement["stmt"] for statement in statements_of(sql)[1]]


def parse_with_places(sql: bytes) -> list[tuple[Tree, str]]:
    """The statements' trees, each with its own text. Raises as `parse` does."""
    text, statements = statements_of(sql)
    return [(statement["stmt"], part_of(text, statement).decode()) for statement in statements]


def statements_of(sql: bytes) -> tuple[bytes, list[Tree]]:
    """The text as it was parsed, in UTF-8, and libpg_query's list of statements in it."""
    if b"\0" in sql:
        raise ValueError("a zero byte")
    text = as_letters(sql)
    # libpg_query's JSON is five times as fast as pglast's own nodes.
    return text.encode(), json.loads(parse_sql_json(text)).get("stmts", [])


def as_letters(sql: bytes) -> str:
    """The text as the grammar reads it."""
    try:
        return sql.decode("utf-8")
    except UnicodeDecodeError:
        # Every byte above 127 is a letter to the grammar, whichever character it is.
        return sql.decode("latin-1")


def part_of(text: bytes, statement: Tree) -> bytes:
    begun = statement.get("stmt_location", 0)
    end = begun + statement.get("stmt_len", len(text))  # the last one has no length
    return text[begun:end]
