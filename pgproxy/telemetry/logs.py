"""What the log looks like: structlog over the standard library's logging, to one stream.

Our modules log events with `structlog.stdlib.get_logger()`; what asyncio, aiohttp and asyncpg log
through the standard library takes the same form. `text` is for eyes, `json` is one object a line.

A storm of one event gives so many lines in ten seconds, and then one with how many were left out
(`suppressed`).
"""

import asyncio
import contextlib
import logging
import sys
import time
from typing import Final, Literal, TextIO

import structlog

from pgproxy.telemetry.lograte import LogRate

_log = structlog.stdlib.get_logger()

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

# They tell at INFO and below what is ours to tell, or nothing at all.
_QUIET: Final = ("aiohttp", "asyncio", "asyncpg")


# Seconds in which lines of one kind are counted.
PERIOD: Final = 10.0


def configure(
    level: Level, log_format: Format, stream: TextIO | None = None, *, rate: int = 0
) -> None:
    """Send the log to `stream` (default: stderr as it is now), at most `rate` lines of one kind in a
    `PERIOD` (0: all of them). May be called again."""
    stream = sys.stderr if stream is None else stream
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(log_format, is_terminal=stream.isatty()),
            ],
        )
    )
    if rate:
        handler.addFilter(Throttle(LogRate(rate, PERIOD)))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def finish() -> None:
    """Nothing more will be logged: what was left out since the last period is told now."""
    for handler in logging.getLogger().handlers:
        for one in handler.filters:
            if isinstance(one, Throttle):
                one.finish()


class Throttle(logging.Filter):
    """Stands before the one handler, where what structlog and what others log is the same."""

    def __init__(self, rate: LogRate) -> None:
        super().__init__()
        self._rate: Final = rate
        self._timed = 0.0  # the period at whose end `_on_time` will be called

    def filter(self, record: logging.LogRecord) -> bool:
        fields = record.msg if isinstance(record.msg, dict) else {}
        if "suppressed" in fields:
            return True
        now = time.monotonic()
        self._tell(now)
        event = str(fields.get("event", "")) or record.getMessage()
        if self._rate.admit((record.levelno, event, str(fields.get("backend", ""))), now):
            return True
        end = self._rate.end
        if self._timed != end:
            # What is logged before the event loop runs, or in a thread, is told with the next line.
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().call_later(end - now, self._on_time, end)
                self._timed = end
        return False

    def finish(self) -> None:
        self._tell(self._rate.end)

    def _on_time(self, end: float) -> None:
        if end == self._rate.end:
            self._tell(end)

    def _tell(self, now: float) -> None:
        for (level, event, backend), count in self._rate.left_out(now).items():
            about = {"backend": backend} if backend else {}
            _log.log(level, event, **about, suppressed=count, seconds=self._rate.period)


def _renderers(log_format: Format, *, is_terminal: bool) -> list[structlog.typing.Processor]:
    if log_format == "json":
        return [
            structlog.processors.format_exc_info,
            structlog.processors.UnicodeDecoder(),
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    return [
        structlog.dev.ConsoleRenderer(
            colors=is_terminal,
            pad_event_to=24,
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]
