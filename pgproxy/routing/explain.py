"""Why a statement goes where it goes, in words: what `pgproxy route` prints. PURE."""

import json
from typing import Final, final

from pglast.parser import ParseError

from pgproxy.protocol.session import ROUTE_NAMES
from pgproxy.routing.classify import PARSE_LIMIT, classify
from pgproxy.routing.decision import NO_HINT, NO_RULE, PRIMARY, REPLICA, Decision
from pgproxy.routing.lookup import BUILT_IN, Lookup
from pgproxy.routing.parsing import parse_with_places
from pgproxy.routing.reasons import SENTENCES
from pgproxy.routing.rules import Rule, Rules, apply, under_session_rule
from pgproxy.routing.statements import decide_statement

_TARGETS: Final = {PRIMARY: "primary", REPLICA: "replica"}


@final
class Explanation:
    """A decision in words, with those of its statements if there are several.

    target, reason, sentence, detail, pin: strings; pin is "" where the session stays free
    rule: of the configuration, the one that fits; it need not have changed anything
    database: whose catalogue has been looked into; "": PostgreSQL's own objects are all that is known
    """

    def __init__(
        self,
        sql: str,
        decision: Decision,
        statements: "list[Explanation]",
        rule: Rule | None = None,
        database: str = "",
    ) -> None:
        self.sql = sql
        self.decision = decision
        self.target = _TARGETS[int(decision.target)]
        self.reason = decision.reason.value
        self.sentence = SENTENCES[decision.reason]
        self.detail = decision.detail
        self.pin = "" if decision.pin is None else decision.pin.value
        told = decision.hint if decision.rule <= NO_RULE else NO_HINT
        self.hint = "" if told == NO_HINT else _TARGETS[int(told)]
        self.statements = statements
        self.rule = rule
        self.database = database

    def to_dict(self) -> dict[str, object]:
        """What the JSON says."""
        members: dict[str, object] = {
            "sql": self.sql,
            "target": self.target,
            "reason": self.reason,
            "sentence": self.sentence,
            "detail": self.detail,
            "pin": self.pin or None,
            "hint": self.hint or None,
            "rule": None,
            "catalogue": self.database or None,
        }
        if self.rule is not None:
            members["rule"] = {
                "number": int(self.rule.number),
                **self.rule.patterns,
                "route": ROUTE_NAMES[int(self.rule.route)],
            }
        if self.statements:
            members["statements"] = [statement.to_dict() for statement in self.statements]
        return members

    def to_json(self) -> str:
        """One JSON object, indented."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def to_text(self) -> str:
        """Lines for a terminal, without a newline at the end."""
        lines = [f"target   {self.target}", f"reason   {self.reason}: {self.sentence}"]
        if self.detail:
            lines.append(f"because  {self.detail}")
        if self.hint:
            lines.append(f"hint     {self.hint}")
        if self.rule is not None:
            lines.append(f"rule     {ROUTE_NAMES[int(self.rule.route)]}: {self.rule.detail}")
        if self.pin:
            condition = ", if PostgreSQL accepts it" if self.decision.unparsed else ""
            lines.append(f"pins     the session keeps its server connection: {self.pin}{condition}")
        if self.database:
            lines.append(f"looked   into the catalogue of database {self.database}")
        for number, statement in enumerate(self.statements, 1):
            rule = ": ".join(filter(None, (statement.reason, statement.detail)))
            lines.append(f"  {number}. {statement.target}  {rule}")
            lines.append(f"     {' '.join(statement.sql.split())}")
        return "\n".join(lines)


def explain(
    sql: str,
    parse_limit: int = PARSE_LIMIT,
    session_rule: Rule | None = None,
    statement_rules: Rules = (),
    lookup: Lookup = BUILT_IN,
    database: str = "",
) -> Explanation:
    """The decision for `sql` alone, outside a transaction, in a session for which these rules hold
    and in which names stand for what `lookup` says, from the catalogue of `database`."""
    text = sql.encode("utf-8", "surrogateescape")
    decision = classify(text, parse_limit, lookup)
    statements: list[Explanation] = []
    if not decision.unparsed and len(text) <= parse_limit:
        try:
            parts = parse_with_places(text)
        except (ParseError, RecursionError, ValueError):
            parts = []
        if len(parts) > 1:
            statements = [
                Explanation(part.strip(), decide_statement(tree, lookup), [])
                for tree, part in parts
            ]
    if statement_rules:
        decision = apply(text[:parse_limit], decision, statement_rules)
    if session_rule is not None:
        decision = under_session_rule(decision, session_rule)
    candidates = [*statement_rules, *([] if session_rule is None else [session_rule])]
    rule = next((one for one in candidates if one.number == decision.rule), None)
    return Explanation(sql, decision, statements, rule, database)
