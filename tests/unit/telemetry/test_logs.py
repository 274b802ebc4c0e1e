import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from pgproxy.telemetry import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)
    for name in ("aiohttp", "asyncio", "asyncpg"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_json_is_one_object_on_each_line() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    structlog.stdlib.get_logger().info("listening", host="::", port=5432, name="é\n")
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "event": "listening",
        "level": "info",
        "host": "::",
        "port": 5432,
        "name": "é\n",
    }


def test_text_is_for_eyes_and_has_no_colours_in_a_file() -> None:
    stream = io.StringIO()
    logs.configure("info", "text", stream)
    structlog.stdlib.get_logger().warning("draining", clients=3)
    (line,) = stream.getvalue().splitlines()
    assert "[warning  ] draining" in line
    assert line.endswith("clients=3")
    assert "\x1b" not in line


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_level_is_a_threshold(level: logs.Level) -> None:
    stream = io.StringIO()
    logs.configure(level, "json", stream)
    log = structlog.stdlib.get_logger()
    levels = ["debug", "info", "warning", "error"]
    for name in levels:
        getattr(log, name)("event")
    told = [json.loads(line)["level"] for line in stream.getvalue().splitlines()]
    assert told == levels[levels.index(level) :]


def test_what_libraries_log_takes_the_same_form_and_only_when_it_matters() -> None:
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    logging.getLogger("asyncio").info("Using selector")
    logging.getLogger("asyncio").error("Task %s was destroyed", "x", extra={"task": 7})
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert (found["event"], found["level"], found["task"]) == ("Task x was destroyed", "error", 7)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_exception_comes_with_its_traceback(log_format: logs.Format) -> None:
    stream = io.StringIO()
    logs.configure("info", log_format, stream)
    try:
        int("the cause")
    except ValueError:
        structlog.stdlib.get_logger().exception("task_failed")
    assert "Traceback" in stream.getvalue()
    assert "ValueError: invalid literal" in stream.getvalue()


def test_configuring_again_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("info", "json", first)
    logs.configure("info", "json", second)
    structlog.stdlib.get_logger().info("once")
    assert not first.getvalue()
    assert len(second.getvalue().splitlines()) == 1


def test_what_was_left_out_is_told_at_the_end() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream, rate=5)
    log = structlog.stdlib.get_logger()
    for _ in range(20):
        log.warning("refused")
    logs.finish()
    logs.finish()
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("suppressed") for line in found] == [None] * 5 + [15]


async def test_a_storm_of_one_event_gives_few_lines_and_one_that_counts_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "PERIOD", 0.2)
    stream = io.StringIO()
    logs.configure("info", "json", stream, rate=5)
    log = structlog.stdlib.get_logger()
    for number in range(200):
        log.warning("refused", number=number)
        logging.getLogger("library").error("failed")
    log.warning("unreachable", backend="one")
    log.error("refused")  # of another level
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["number"] for line in found if "number" in line] == [0, 1, 2, 3, 4]
    assert [line["event"] for line in found].count("failed") == 5
    assert [line["event"] for line in found[-2:]] == ["unreachable", "refused"]
    while "suppressed" not in stream.getvalue():  # noqa: ASYNC110 - nobody tells, and nothing is logged
        await asyncio.sleep(0.01)
    told = [json.loads(line) for line in stream.getvalue().splitlines()[len(found) :]]
    assert [(line["event"], line["level"], line["suppressed"]) for line in told] == [
        ("refused", "warning", 195),
        ("failed", "error", 195),
    ]


def test_where_no_loop_runs_the_next_line_brings_what_was_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "PERIOD", 0.1)
    stream = io.StringIO()
    logs.configure("info", "json", stream, rate=1)
    log = structlog.stdlib.get_logger()
    for _ in range(3):
        log.warning("unreachable", backend="one")
    while "suppressed" not in stream.getvalue():
        log.info("tick")
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    counted = [line for line in told if line["event"] == "unreachable"]
    assert [line.get("suppressed") for line in counted] == [None, 2]
    assert counted[1]["backend"] == "one"


def test_without_a_rate_every_line_is_written() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    for _ in range(500):
        structlog.stdlib.get_logger().info("event")
    assert len(stream.getvalue().splitlines()) == 500
