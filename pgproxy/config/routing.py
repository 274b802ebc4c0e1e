"""Which server runs a statement, and how old a read may be: [routing] and [consistency]."""

from typing import Annotated, Literal

from pydantic import Field

from pgproxy.config.kinds import (
    Patterns,
    Positive,
    Seconds,
    SecondsOrNever,
    SecondsOrOff,
    Section,
    Switch,
    Text,
    TopQueries,
)


class RoutingRule(Section):
    """One `[[routing.rules]]`: patterns are regular expressions, empty ones ask for nothing."""

    database: Text = ""
    user: Text = ""
    application_name: Text = ""
    statement: Text = ""
    route: Literal["auto", "primary", "replica"]


class Routing(Section):
    """Which role runs a statement."""

    transactions: Literal["primary", "replica-until-write"] = "primary"
    balance: Literal["least-loaded", "weighted-random", "round-robin", "sticky"] = "least-loaded"
    zone: Text = ""
    warm_up: Seconds = 10.0
    read_from_primary: Literal["never", "fallback", "always"] = "fallback"
    read_functions: Patterns = ()
    write_functions: Patterns = ()
    safety_net: Switch = True
    parse_limit: Positive = 32_768
    cache_size: Positive = 10_000
    catalogue_interval: SecondsOrNever = 60.0
    top_queries: TopQueries = 20
    rules: Annotated[
        tuple[RoutingRule, ...],
        Field(description="a list of tables, each with a route and what it is for"),
    ] = ()


class Consistency(Section):
    """How old a read may be."""

    read_your_writes: Literal["session", "global", "off"] = "session"
    max_staleness: SecondsOrOff = 10.0
    wait: Seconds = 0.0
