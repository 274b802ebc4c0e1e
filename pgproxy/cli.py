"""The `pgproxy` command: arguments and the environment to a configuration, and that to work.

What the user got wrong is one line on stderr with what to do next, never a traceback: exit 2 for
the command line and the configuration, 1 for what fails later. Each command imports what it needs
when it runs, so that --version is quick.
"""

# ruff: noqa: PLC0415 - see the last sentence above

import asyncio
import errno
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

import pgproxy
from pgproxy import _compiled
from pgproxy.errors import ConfigError

if TYPE_CHECKING:
    from pgproxy.config import Config, Rules
    from pgproxy.protocol.userlist import UserEntry

Result = TypeVar("Result")

_ADVICE: Final = {
    errno.EADDRINUSE: "another program has that port: stop it, or choose another with listen.port "
    "or http.port (PGPROXY_LISTEN__PORT, PGPROXY_HTTP__PORT); 0 lets the system pick",
    errno.EACCES: "ports below 1024 are for privileged users: choose a higher one with listen.port "
    "or http.port (PGPROXY_LISTEN__PORT, PGPROXY_HTTP__PORT)",
    errno.EADDRNOTAVAIL: "listen.host and http.host must be addresses of this machine; "
    '"0.0.0.0" is all of them',
}
_NO_SUCH_HOST: Final = "listen.host or http.host is a name that cannot be resolved here"

_config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    envvar="PGPROXY_CONFIG",
    metavar="FILE",
    help="TOML file; without it the environment (PGPROXY_SECTION__KEY) and the defaults.",
)


def main() -> NoReturn:
    """The entry point of the console script and of `python -m pgproxy`."""
    cli.main(prog_name="pgproxy")
    raise SystemExit  # click has exited already


def _show_version(context: click.Context, _parameter: click.Parameter, *, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    mode, _, reason = _compiled.mode().partition(" (")
    reason = f": {reason.removesuffix(')')}" if reason else ""
    click.echo(f"pgproxy {pgproxy.__version__} ({mode}{reason})")
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, parameter, value: _show_version(context, parameter, value=value),
    help="Show the version, and whether the hot path is compiled.",
)
def cli() -> None:
    """One PostgreSQL endpoint: reads go to replicas, writes to the primary."""


@cli.command()
@_config_option
def serve(path: Path | None) -> None:
    """Run the proxy in the foreground; logs go to stderr, SIGTERM drains."""
    _end_at_sigterm()
    from pgproxy.app import serve as serve_app
    from pgproxy.telemetry import logs

    config = _load(path)
    logs.configure(config.log.level, config.log.format, rate=config.log.rate)
    if config.listen.workers == 1:
        _run(serve_app(config))
        return
    from pgproxy.workers.supervisor import supervise

    sys.exit(_run(supervise(config)))


@cli.command()
@_config_option
@click.option(
    "--dry-run", is_flag=True, help="Write nothing, take no Lease; log what would be changed."
)
def label(path: Path | None, *, dry_run: bool) -> None:
    """Set a role label on the pods of PostgreSQL, where no operator does.

    It asks each server of [discovery.kubernetes] what it is, and sets the label of [label], by
    default role=primary and role=replica, so that Services can select by it. Several instances
    may run: a Lease says which one writes. Logs go to stderr; SIGTERM ends it.
    """
    _end_at_sigterm()
    from pgproxy.config import label_contradictions
    from pgproxy.label.app import label as label_pods
    from pgproxy.telemetry import logs

    config = _load(path, label_contradictions)
    logs.configure(config.log.level, config.log.format, rate=config.log.rate)
    _run(label_pods(config, dry_run=dry_run))


@cli.command(hidden=True)
@click.option("--number", type=int, required=True)
@click.option("--channel", type=int, required=True)
@click.option("--memory", type=int, required=True)
@click.option("--sockets", required=True)
def worker(number: int, channel: int, memory: int, sockets: str) -> None:
    """One worker of several; `serve` starts it."""
    from pgproxy.app import serve_as_worker

    numbers = [[int(one) for one in some.split(",")] for some in sockets.split(";")]
    _run(serve_as_worker(number, channel, memory, numbers))


@cli.command()
@click.option(
    "--replicas", type=click.IntRange(0, 16), default=2, show_default=True, help="How many."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Where the proxy listens; by default 5432 if it is free, else the system picks.",
)
def demo(replicas: int, port: int) -> None:
    """Start PostgreSQL with replicas and the proxy in front; Ctrl-C removes all of it."""
    from pgproxy.demo import run_demo
    from pgproxy.embedded import EmbeddedError

    try:
        run_demo(replicas, port)
    except EmbeddedError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        reason = error.strerror
        _fail(f"cannot listen: {reason}; choose another --port, or leave it to the system")


@cli.command()
@_config_option
def check(path: Path | None) -> None:
    """Validate the configuration and show each value with its origin; exit 2 if it has faults."""
    from pgproxy.clients.users import read_users, users_file
    from pgproxy.config import notices, origins
    from pgproxy.servers.tls import ClientTls, ServerTls
    from pgproxy.topology.discovery import describe

    config = _load(path)
    try:
        users = read_users(config.auth, os.environ, users_file(config.auth))
        ClientTls(config.listen)
        ServerTls(config.server)
    except ConfigError as error:
        _refuse(error)
    settings = origins(path, os.environ)
    lines = [(f"{setting.key} = {setting.value}", setting.origin) for setting in settings]
    width = max(len(line) for line, _ in lines if len(line) <= 60)
    for line, origin in lines:
        click.echo(f"{line:<{width}}  # {origin}")
    for described in _describe_users(users):
        click.echo(f"# {described}")
    if asked := describe(config.discovery):
        click.echo(f"# {asked}")
    for notice in notices(config):
        click.echo(f"# note: {notice}")
    if config.discovery.mode == "static":
        for line in _compare_with_servers(config):
            click.echo(f"# {line}")


def _describe_users(users: "list[tuple[UserEntry, str]]") -> list[str]:
    """Where they are from; those of the users file only by their number."""
    in_file = Counter(origin for _, origin in users if origin.startswith("file "))
    lines = [f"users: {count} of {origin}" for origin, count in in_file.items()]
    for user, origin in users:
        if origin not in in_file:
            lines.append(f'user "{user.name}" ({user.kind.value} password): {origin}')
    return lines


def _compare_with_servers(config: "Config") -> list[str]:
    """What the servers that can be asked have to say to the sizes of the pools."""
    from pgproxy.servers.sizes import excess_text, pool_sizes
    from pgproxy.topology.rooms import ask_rooms

    lines = []
    for name, room, trouble in asyncio.run(ask_rooms(config)):
        if trouble:
            lines.append(f"note: {name} was not asked how many connections it takes: {trouble}")
        elif text := excess_text(pool_sizes(config.pool), room):
            lines.append(f"warning: {name}: {text}")
    return lines


@cli.command()
@_config_option
@click.option("--database", default="", help="The session's; by default health.database.")
@click.option("--user", default="", help="The session's, for its search_path and the rules.")
@click.option("--application-name", default="", help="The session's, for the rules.")
@click.option("--search-path", default=None, help="The session's, if not its user's default.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.argument("sql")
def route(
    path: Path | None,
    database: str,
    user: str,
    application_name: str,
    search_path: str | None,
    sql: str,
    *,
    as_json: bool,
) -> None:
    """Explain where SQL goes: the target, the reason, and what in the statement made it so.

    With a configuration whose primary can be asked, names are those of the database; else
    PostgreSQL's own are all that is known.
    """
    from pgproxy.config import Routing
    from pgproxy.routing.explain import explain
    from pgproxy.routing.lookup import FunctionLists
    from pgproxy.routing.router import Memory
    from pgproxy.routing.routers import DatabaseRouters
    from pgproxy.routing.rules import rule_set
    from pgproxy.servers.catalogues import load_once

    # Without a file nothing needs to be configured yet: explaining takes no server.
    config = None if path is None else _load(path)
    routing = Routing() if config is None else config.routing
    catalogue = None
    asked = database
    if config is not None:
        asked = database or config.health.database
        catalogue = asyncio.run(load_once(config, asked))
    routers = DatabaseRouters(
        Memory(), FunctionLists(routing.read_functions, routing.write_functions)
    )
    routers.take(catalogue)
    rules = rule_set([rule.model_dump() for rule in routing.rules])
    explanation = explain(
        sql,
        routing.parse_limit,
        *rules.for_session(database, user, application_name),
        lookup=routers.choose(search_path, user).lookup,
        database="" if catalogue is None else asked,
    )
    click.echo(explanation.to_json() if as_json else explanation.to_text())


def _end_at_sigterm() -> None:
    """Until there is something to drain. The first process of a container needs that: without a
    handler of its own the kernel gives it no SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def _load(path: Path | None, rules: "Rules | None" = None) -> "Config":
    from pgproxy.config import contradictions, load

    try:
        return load(path, os.environ, rules or contradictions)
    except ConfigError as error:
        _refuse(error)


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end in a uvloop."""
    import uvloop

    from pgproxy.telemetry import logs

    try:
        return uvloop.run(work)
    except ConfigError as error:  # what only shows when it is used, such as the file of users
        _refuse(error)
    except OSError as error:
        _explain_or_raise(error)
    except BaseExceptionGroup as group:
        leaf = _only_leaf(group)
        if isinstance(leaf, ConfigError):
            _refuse(leaf)
        if isinstance(leaf, OSError):
            _explain_or_raise(leaf)
        raise
    finally:
        logs.finish()


def _only_leaf(error: BaseException) -> BaseException | None:
    """The one exception that a nest of groups holds; None if there are several."""
    while isinstance(error, BaseExceptionGroup):
        if len(error.exceptions) > 1:
            return None
        error = error.exceptions[0]
    return error


def _refuse(error: ConfigError) -> NoReturn:
    for fault in error.faults:
        click.echo(fault, err=True)
    sys.exit(2)


def _explain_or_raise(error: OSError) -> NoReturn:
    """Say what to do about a port that could not be had; anything else is a bug and is raised."""
    if isinstance(error, socket.gaierror):
        _fail(f"cannot listen: {error.strerror}; {_NO_SUCH_HOST}")
    advice = _ADVICE.get(error.errno or 0)
    if advice is None:
        raise error
    _fail(f"cannot listen: {error.strerror}; {advice}")


def _fail(message: str) -> NoReturn:
    click.echo(f"pgproxy: {message}", err=True)
    sys.exit(1)
