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
