"""Texts of the admin console, and what they mean."""

import pytest

from pgproxy.errors import PgError
from pgproxy.protocol.commands import parse, split


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("SHOW STATS", ["SHOW STATS"]),
        ("show stats ; show pools;", ["show stats", "show pools"]),
        (' ; PAUSE "a;b" ; ', ['PAUSE "a;b"']),
        ("SHOW STATS -- all; of them\n;RELOAD", ["SHOW STATS", "RELOAD"]),
        ("/* a; comment */ RELOAD", ["RELOAD"]),
        ("SET application_name = 'a;''b'", ["SET application_name = 'a;''b'"]),
        ("SHOW 'open; STATS", ["SHOW 'open", "STATS"]),
        ("a - b", ["a - b"]),
        (" ; -- nothing", []),
        ("", []),
        ("RELOAD /* no end; of it", ["RELOAD"]),
        ("/* " * 20000, []),
    ],
)
def test_a_query_is_cut_into_its_statements(text: str, statements: list[str]) -> None:
    assert split(text) == statements


@pytest.mark.parametrize(
    ("text", "word", "argument", "tag"),
    [
        ("SHOW Clients", "show", "clients", "SHOW"),
        ("show\n  stats_totals", "show", "stats_totals", "SHOW"),
        ("SHOW TRANSACTION ISOLATION LEVEL", "show", "transaction_isolation", "SHOW"),
        ("SHOW TIME ZONE", "show", "timezone", "SHOW"),
        ("PAUSE", "pause", "", "PAUSE"),
        ("pause Shop", "pause", "Shop", "PAUSE"),
        ('RESUME "odd ""name"', "resume", 'odd "name', "RESUME"),
        ("KILL_CLIENT 17", "kill_client", "17", "KILL_CLIENT"),
        ("wait_close my-db", "wait_close", "my-db", "WAIT_CLOSE"),
        ("SHUTDOWN WAIT_FOR_CLIENTS", "shutdown", "WAIT_FOR_CLIENTS", "SHUTDOWN"),
        ("reload", "reload", "", "RELOAD"),
        ("BEGIN ISOLATION LEVEL READ COMMITTED", "begin", "", "BEGIN"),
        ("START TRANSACTION", "begin", "", "START TRANSACTION"),
        ("end", "end", "", "COMMIT"),
        ("ABORT", "end", "", "ROLLBACK"),
        ("SET extra_float_digits = 3", "set", "extra_float_digits", "SET"),
        ("set session time zone 'UTC'", "set", "timezone", "SET"),
        ("SET NAMES 'UTF8'", "set", "client_encoding", "SET"),
        ("SET max_client_conn = 5", "set", "max_client_conn", "SET"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "set", "transaction_isolation",
         "SET"),
        ("DISCARD ALL", "ignored", "", "DISCARD ALL"),
        ("RESET ALL", "ignored", "", "RESET"),
    ],
)  # fmt: skip
def test_a_command(text: str, word: str, argument: str, tag: str) -> None:
    command = parse(text)
    assert (command.word, command.argument, command.tag) == (word, argument, tag)


@pytest.mark.parametrize(
    "text",
    ["SELECT 1", "SHOW", "SHOW a b c", "PAUSE a b", "RELOAD now", 'PAUSE "', "SET", "!", "FOO bar"],
)
def test_what_is_no_command(text: str) -> None:
    with pytest.raises(PgError, match=r"invalid command") as refused:
        parse(text)
    assert (refused.value.sqlstate, refused.value.hint) == ("42601", "use SHOW HELP")


@pytest.mark.parametrize("word", ["DISABLE", "ENABLE", "KILL_CLIENT"])
def test_a_command_that_needs_a_name(word: str) -> None:
    with pytest.raises(PgError, match=f"{word} needs the"):
        parse(word)
