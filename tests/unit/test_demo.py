"""The live view of the demo: what is printed for which statements."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from pgproxy.demo import LiveView


class Seconds:
    """Stands in for an event loop: the timer goes off when the test says so."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        assert delay == 1.0
        self.callbacks.append(callback)
        return cast(asyncio.TimerHandle, self)

    def cancel(self) -> None:
        self.callbacks.clear()

    def pass_one(self) -> None:
        self.callbacks.pop()()


class Screen:
    """A view and the lines it printed, without their time."""

    def __init__(self) -> None:
        self.seconds = Seconds()
        self.lines: list[str] = []
        self.view = LiveView(
            lambda line: self.lines.append(line[10:]),
            cast(asyncio.AbstractEventLoop, self.seconds),
        )

    def run(self, count: int, backend: str = "replica-1", reason: str = "read") -> None:
        for _ in range(count):
            self.view.statement(b"SELECT 1", backend, "replica", reason)


def test_a_statement_is_one_line() -> None:
    screen = Screen()
    screen.view.statement(b"INSERT INTO t\n  VALUES (1)", "primary", "primary", "write")
    assert screen.lines == ["-> primary    write                INSERT INTO t VALUES (1)"]


def test_a_long_statement_is_cut_at_80_characters() -> None:
    screen = Screen()
    screen.view.statement(b"SELECT '" + b"x" * 100_000 + b"'", "primary", "primary", "read")
    shown = screen.lines[0].rpartition("  ")[2].strip()
    assert len(shown) == 80
    assert shown.endswith("x…")


@pytest.mark.parametrize("sql", [b"SELECT '\x1b]0;title\x07'", b"SELECT '\xff\xfe'", b"\x00\r\n"])
def test_nothing_that_a_terminal_would_obey_is_printed(sql: bytes) -> None:
    screen = Screen()
    screen.view.statement(sql, "primary", "primary", "read")
    assert all(character.isprintable() for character in screen.lines[0])


def test_more_than_20_in_a_second_are_summed_up() -> None:
    screen = Screen()
    screen.run(25)
    screen.run(2, "primary", "write")
    assert len(screen.lines) == 20
    screen.seconds.pass_one()
    assert screen.lines[20:] == [
        "7 more within a second: 2 -> primary (write), 5 -> replica-1 (read)"
    ]


def test_a_lasting_flood_is_one_line_a_second_and_then_lines_again() -> None:
    screen = Screen()
    screen.run(100)
    screen.seconds.pass_one()
    screen.lines.clear()
    screen.run(1000)
    assert screen.lines == []
    screen.seconds.pass_one()
    assert screen.lines == ["1000 more within a second: 1000 -> replica-1 (read)"]
    screen.seconds.pass_one()
    screen.run(1)
    assert len(screen.lines) == 2
    assert screen.lines[1].startswith("-> replica-1")


def test_the_end_shows_the_sum_that_is_due() -> None:
    screen = Screen()
    screen.run(21)
    screen.view.close()
    assert len(screen.lines) == 21
    screen.view.close()
    assert len(screen.lines) == 21
