"""PURE. The configuration's rules: routes for sessions and for texts ([[routing.rules]]).

The first rule that fits decides. One without a `statement` gives a session its route, as SET
pgproxy.route would, and ends the list for it; those before it that have one are asked for each text
that the router has not seen, as the client wrote it. What the client says itself (a hint, SET
pgproxy.route) overrules them, and no rule sends a known write to a replica.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, cast, final

from mypy_extensions import i64

from pgproxy.protocol.named import Names, NameUse
from pgproxy.protocol.session import AUTO, ROUTES, TO_PRIMARY, TO_REPLICA
from pgproxy.routing.decision import EMPTY, END, NO_HINT, NO_RULE, PRIMARY, REPLICA, Decision

# What a rule may ask of a session; a pattern must fit the whole of it.
NAMES: Final = ("database", "user", "application_name")
STATEMENT: Final = "statement"


@final
class Rule:
    """One rule, counted from 1. `patterns` are regular expressions by what they are for; those that
    are missing or empty fit everything. Raises re.error."""

    def __init__(self, number: int, route: str, patterns: Mapping[str, str]) -> None:
        self.number: i64 = number
        self.route: i64 = ROUTES[route]
        self.patterns: Final = {name: text for name, text in patterns.items() if text}
        self._names: Final = [
            None if not patterns.get(name) else re.compile(patterns[name]) for name in NAMES
        ]
        text = patterns.get(STATEMENT, "")
        self.statement: Final = re.compile(text, re.DOTALL) if text else None

    def fits_session(self, *names: str) -> bool:
        """`names` are the values of NAMES."""
        return all(
            pattern is None or pattern.fullmatch(name) is not None
            for pattern, name in zip(self._names, names, strict=True)
        )

    @property
    def detail(self) -> str:
        """Which rule it is, for people."""
        asked = ", ".join(f'{name} "{text}"' for name, text in self.patterns.items())
        return f"rule {self.number}: {asked}"

    def __repr__(self) -> str:
        return f"<Rule {self.detail}>"


Rules = tuple[Rule, ...]


@final
class RuleSet:
    """All of them, in order."""

    def __init__(self, rules: Rules = ()) -> None:
        self.rules: Final = rules

    def for_session(
        self, database: str, user: str, application_name: str
    ) -> tuple[Rule | None, Rules]:
        """The rule that gives such a session its route, if there is one, and the rules before it
        for its texts."""
        for_texts: list[Rule] = []
        for rule in self.rules:
            if not rule.fits_session(database, user, application_name):
                continue
            if rule.statement is None:
                return rule, tuple(for_texts)
            for_texts.append(rule)
        return None, tuple(for_texts)


def rule_set(entries: Sequence[Mapping[str, str]]) -> RuleSet:
    """The rules of the configuration: `route`, NAMES, `statement`. Raises re.error."""
    return RuleSet(
        tuple(
            Rule(number, entry["route"], {name: entry[name] for name in (*NAMES, STATEMENT)})
            for number, entry in enumerate(entries, 1)
        )
    )


def apply(sql: bytes, decision: Decision, rules: Rules) -> Decision:
    """The decision under the first of `rules` that fits the text, or its beginning."""
    if decision.kind > END or decision.hint != NO_HINT:
        return decision.ruled(NO_RULE, decision.target, "")
    text = sql.decode("utf-8", "replace")
    for rule in rules:
        assert rule.statement is not None
        if rule.statement.search(text) is not None:
            return _under(decision, rule)
    return decision.ruled(NO_RULE, decision.target, "")


def _under(decision: Decision, rule: Rule) -> Decision:
    target = decision.target
    if rule.route == TO_PRIMARY:
        target = PRIMARY
    elif rule.route == TO_REPLICA and decision.may_follow:
        target = REPLICA
    told = NO_HINT if rule.route == AUTO else rule.route
    ruled = decision.ruled(rule.number, target, rule.detail, told)
    names = decision.names
    if names is None:
        return ruled
    # PREPARE: what it prepares is in the text; EXECUTE: what holds if that only reads.
    uses = [
        use if use.decision is None else _prepares(use, _under(cast(Decision, use.decision), rule))
        for use in names.uses
    ]
    return ruled.naming(Names(tuple(uses), _under(cast(Decision, names.reads), rule)))


def _prepares(use: NameUse, decision: Decision) -> NameUse:
    return NameUse(
        int(use.kind),
        use.name,
        decision=decision,
        runs=use.runs,
        index=int(use.index),
        sql=use.sql,
    )


def under_session_rule(decision: Decision, rule: Rule) -> Decision:
    """The decision in a session that has its route of the rule."""
    target = decision.target
    if decision.rule > NO_RULE or decision.kind > END or decision.kind == EMPTY:
        return decision
    if rule.route == TO_PRIMARY:
        target = PRIMARY
    elif rule.route == TO_REPLICA and not decision.known_write and decision.pin is None:
        target = REPLICA
    return decision.ruled(rule.number, target, rule.detail)
