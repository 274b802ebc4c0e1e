"""What the log looks like: structlog over the standard library's logging, to one stream.

Our modules log events with `structlog.stdlib.get_logger()`; what asyncio, aiohttp and asyncpg log
through the standard library takes the same form. `text` is for eyes, `json` is one object a line.
"""

import logging
import sys
from typing import Final, Literal, TextIO

import structlog

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

# They tell at INFO and below what is ours to tell, or nothing at all.
_QUIET: Final = ("aiohttp", "asyncio", "asyncpg")


def configure(level: Level, log_format: Format, stream: TextIO | None = None) -> None:
    """Send the log to `stream` (default: stderr as it is now). May be called again."""
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
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


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
