"""PURE. A text that names prepared statements -> the decisions that hold for it.

The router knows the text alone; what EXECUTE runs is known here, from the client's statements.
"""

from typing import cast

from pgproxy.protocol.named import DEALLOCATES, DEALLOCATES_ALL, EXECUTES, PREPARES
from pgproxy.protocol.prepared import Statement
from pgproxy.routing.decision import PRIMARY, REPLICA, Decision
from pgproxy.routing.router import Router
from pgproxy.routing.statements import FIXED_READ


def decided(statement: Statement, router: Router) -> Decision:
    """What the router says now of a statement that was prepared earlier, or by another session."""
    if statement.epoch != router.epoch:
        decision = router.decide(statement.sql)
        if statement.by_sql and decision.names is not None:
            prepared = decision.names.uses[0].decision
            statement.decision = prepared if prepared is not None else decision
        else:
            statement.decision = decision
        statement.epoch = router.epoch
    return cast(Decision, statement.decision)


def decisions_of(
    decision: Decision, statements: dict[bytes, Statement], router: Router
) -> list[Decision]:
    """The decisions that must all be heeded; at least one."""
    names = decision.names
    assert names is not None
    made: dict[bytes, Decision | None] = {}
    all_gone = False
    inner: list[Decision] = []
    executes = False
    for use in names.uses:
        name = use.name
        if use.kind == PREPARES:
            made[name] = cast(Decision, use.decision)
        elif use.kind == DEALLOCATES:
            made[name] = None
        elif use.kind == DEALLOCATES_ALL:
            made.clear()
            all_gone = True
        elif use.kind == EXECUTES:
            executes = True
            statement = None if all_gone else statements.get(name)
            prepared = None if statement is None else decided(statement, router)
            executed = made.get(name, prepared)
            if executed is None:
                return [decision]  # it fails, or runs what nobody here has seen
            if executed.target == PRIMARY and not (use.runs and _overruled(decision, executed)):
                found = executed if use.runs else _only_explained(executed)
                inner.append(found.counted(decision.structure))
            elif use.runs and not executed.movable:
                inner.append(FIXED_READ)
    if not executes:
        return [decision]
    return [cast(Decision, names.reads), *inner]


def _overruled(decision: Decision, executed: Decision) -> bool:
    """Whether the text's hint sends to a replica what the router would not."""
    return decision.hint == REPLICA and executed.may_follow


def _only_explained(executed: Decision) -> Decision:
    return Decision(PRIMARY, executed.reason, detail=executed.detail)
