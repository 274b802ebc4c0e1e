"""A process that is a proxy, or one worker of it."""

import mmap
import resource
import socket
from collections.abc import Callable

import structlog

from pgproxy.app.clients import OnStatement
from pgproxy.app.proxy import Proxy, Ready
from pgproxy.config import Config
from pgproxy.relay.board import board_size
from pgproxy.servers import descriptors
from pgproxy.telemetry import logs
from pgproxy.workers.hello import from_plain
from pgproxy.workers.member import Member

_log = structlog.stdlib.get_logger()


async def serve(
    config: Config,
    *,
    on_ready: Callable[[Ready], None] | None = None,
    on_statement: OnStatement | None = None,
) -> None:
    """Runs the proxy until it is told to stop. Raises OSError if a port cannot be had.

    `on_statement` is told every statement: text, backend, target, reason (the demo's live view).
    """
    _raise_descriptor_limit()
    if config.listen.max_clients > descriptors.for_clients():
        _log.warning(
            "few_descriptors",
            max_clients=config.listen.max_clients,
            descriptors=descriptors.limit(),
            for_clients=descriptors.for_clients(),
        )
    await Proxy(config, on_statement).run(on_ready)


async def serve_as_worker(number: int, channel: int, memory: int, sockets: list[list[int]]) -> None:
    """Runs one worker; all but the number are descriptors (workers/process.py)."""
    _raise_descriptor_limit()
    member = Member(
        number,
        [[socket.socket(fileno=one) for one in some] for some in sockets],
        mmap.mmap(memory, board_size(len(sockets))),
    )
    try:
        config = from_plain(await member.join(socket.socket(fileno=channel)))
    except ConnectionError:  # the supervisor has ended meanwhile
        return
    logs.configure(config.log.level, config.log.format, rate=config.log.rate)
    structlog.contextvars.bind_contextvars(worker=number)
    await Proxy(config, member=member).run_as(member)


def _raise_descriptor_limit() -> None:
    """A connection is a descriptor, and the usual soft limit is 1024; the hard one is ours to use."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
