"""One statement's parse tree -> its decision: DESIGN's table, row by row. PURE.

Each kind of statement has one line in a table below; those whose parts decide have a function. A
kind that is in no table goes to the primary.
"""

import re
from collections.abc import Callable
from typing import Final

from pgproxy.protocol.channels import LISTEN_TO, NOTIFIES, UNLISTEN_ALL, UNLISTEN_FROM, Act
from pgproxy.protocol.named import DEALLOCATES, DEALLOCATES_ALL, EXECUTES, PREPARES, Names, NameUse
from pgproxy.protocol.settings import AUTHORITY, Effect
from pgproxy.routing.ddl import decide_ddl, is_ddl
from pgproxy.routing.decision import (
    DEALLOCATE,
    DOUBTS,
    LISTEN,
    NEVER,
    PLAIN,
    PRIMARY,
    REPLICA,
    SHOW_CHANNELS,
    UNLISTEN,
    Decision,
)
from pgproxy.routing.functions import PINS
from pgproxy.routing.lookup import BUILT_IN, Lookup
from pgproxy.routing.pins import Pin, lasting_pin
from pgproxy.routing.reads import (
    DATA_CHANGES,
    KNOWN_WRITES,
    Findings,
    Tree,
    sets_all_or_nothing,
    strings,
)
from pgproxy.routing.reasons import Reason
from pgproxy.routing.setting import decide_set, decide_show
from pgproxy.routing.transactions import decide_transaction, option_name

# Most reads have this decision; decisions are never changed, so all share it.
PLAIN_READ: Final = Decision(REPLICA, Reason.READ, movable=True)
# And most of the others, such as SELECT now(), this one.
FIXED_READ: Final = Decision(REPLICA, Reason.READ)

# Statements that go to the primary whatever they hold, and what they are called.
FIXED: Final = {
    "CheckPointStmt": (Reason.MAINTENANCE, "CHECKPOINT"),
    "ClusterStmt": (Reason.MAINTENANCE, "CLUSTER"),
    "ConstraintsSetStmt": (Reason.TRANSACTION_CONTROL, "SET CONSTRAINTS"),
    "FetchStmt": (Reason.CURSOR, "FETCH"),
    "LockStmt": (Reason.LOCK, "LOCK"),
    "RefreshMatViewStmt": (Reason.MAINTENANCE, "REFRESH MATERIALIZED VIEW"),
    "ReindexStmt": (Reason.MAINTENANCE, "REINDEX"),
    "TruncateStmt": (Reason.WRITE, "TRUNCATE"),
    "VacuumStmt": (Reason.MAINTENANCE, "VACUUM"),
}

# The same, but what they do no read elsewhere can miss, and may end what a session is pinned for.
LOCAL: Final = {
    "ClosePortalStmt": (Reason.CURSOR, "CLOSE"),
}

# Statements that always leave something in the session.
PINNING: Final = {
    "LoadStmt": (Reason.SESSION_STATE, "LOAD", Pin.LOAD),
}

# What a DO block may do to its session, as words of its body. EXECUTE may do anything; SET is also
# a part of UPDATE, where it costs a pin and nothing else.
_SESSION_WORDS: Final = re.compile(
    rf"\b(set|temp|temporary|pg_temp\w*|listen|load|execute|call|set_config|{'|'.join(sorted(PINS))})\b",
    re.IGNORECASE,
)

# And to the schema.
_DDL_WORDS: Final = re.compile(r"\b(create|alter|drop|execute)\b", re.IGNORECASE)

NOTIFIED: Final[tuple[Act, ...]] = ((NOTIFIES, b""),)

_CURSOR_OPT_HOLD: Final = 0x0020  # nodes/parsenodes.h


DISCARD_ALL_EFFECTS: Final = (Effect(AUTHORITY, resets=True, all=True),)


def decide_statement(tree: Tree, lookup: Lookup = BUILT_IN) -> Decision:
    """The decision for one statement that is alone in its text, before hints."""
    for node_type, node in tree.items():
        return _decide(node_type, node, lookup)
    return Decision(PRIMARY, Reason.UNKNOWN_SYNTAX, detail="empty node")


def _decide(node_type: str, node: Tree, lookup: Lookup) -> Decision:
    if node_type == "SelectStmt":
        return _select(node, lookup)
    if node_type in DATA_CHANGES:
        return _changing({node_type: node}, Reason.WRITE, DATA_CHANGES[node_type], lookup)
    special = SPECIAL.get(node_type)
    if special is not None:
        return special(node)
    looking = LOOKING.get(node_type)
    if looking is not None:
        return looking(node, lookup)
    if node_type in FIXED:
        reason, detail = FIXED[node_type]
        return Decision(PRIMARY, reason, detail=detail, known_write=reason in KNOWN_WRITES)
    if node_type in LOCAL:
        reason, detail = LOCAL[node_type]
        return Decision(
            PRIMARY,
            reason,
            detail=detail,
            known_write=reason in KNOWN_WRITES,
            may_unpin=True,
            writes=0,
        )
    if node_type in PINNING:
        reason, detail, pin = PINNING[node_type]
        return Decision(PRIMARY, reason, pin=pin, detail=detail, known_write=reason in KNOWN_WRITES)
    if is_ddl(node_type):
        return _ddl(node_type, node, lookup)
    return Decision(PRIMARY, Reason.UNKNOWN_SYNTAX, detail=node_type)


def _select(node: Tree, lookup: Lookup) -> Decision:
    findings = Findings(lookup)
    findings.sets_surely = sets_all_or_nothing(node)
    findings.look({"SelectStmt": node})
    decision = _from_findings(findings, Reason.READ)
    call = _only_call(node)
    if call is None or strings(call["funcname"])[-1] != "pg_listening_channels":
        return decision
    return Decision(
        PRIMARY,
        Reason.PRIMARY_FUNCTION,
        kind=SHOW_CHANNELS,
        detail="function pg_listening_channels",
    )


def _only_call(node: Tree) -> Tree | None:
    """The call of SELECT f() or SELECT * FROM f(), where there is nothing else."""
    targets = node.get("targetList", [])
    target = targets[0].get("ResTarget", {}) if len(targets) == 1 else {}
    if "name" in target:
        return None
    call = None
    if len(node) == 3:  # those of every SELECT: limitOption, op
        call = target.get("val", {}).get("FuncCall")
    elif len(node) == 4 and len(node.get("fromClause", [])) == 1:
        is_star = target.get("val", {}).get("ColumnRef", {}).get("fields") == [{"A_Star": {}}]
        function = node["fromClause"][0].get("RangeFunction", {})
        if is_star and set(function) == {"functions"} and len(function["functions"]) == 1:
            call = function["functions"][0]["List"]["items"][0].get("FuncCall")
    return None if call is None or "args" in call else call


def _listen(node: Tree) -> Decision:
    name = str(node["conditionname"])
    return Decision(
        PRIMARY,
        Reason.NOTIFY,
        kind=LISTEN,
        pin=Pin.LISTEN,
        detail="LISTEN",
        known_write=True,
        writes=0,
        acts=((LISTEN_TO, name.encode()),),
    )


def _unlisten(node: Tree) -> Decision:
    name = str(node.get("conditionname", ""))
    act = UNLISTEN_FROM if name else UNLISTEN_ALL
    return Decision(
        PRIMARY,
        Reason.NOTIFY,
        kind=UNLISTEN,
        detail="UNLISTEN",
        known_write=True,
        may_unpin=True,
        writes=0,
        acts=((act, name.encode()),),
    )


def _notify(_node: Tree) -> Decision:
    return Decision(
        PRIMARY, Reason.NOTIFY, detail="NOTIFY", known_write=True, writes=0, acts=NOTIFIED
    )


def _read(tree: Tree, reason: Reason, lookup: Lookup) -> Decision:
    """A statement that is a read if nothing in it says otherwise."""
    findings = Findings(lookup)
    findings.look(tree)
    return _from_findings(findings, reason)


def _from_findings(findings: Findings, read: Reason) -> Decision:
    if findings.reason is None:
        if read is Reason.READ and not findings.exact:
            return PLAIN_READ if findings.movable else FIXED_READ
        return Decision(REPLICA, read, movable=findings.movable, exact=findings.exact)
    pin = findings.pin
    if findings.makes_temporary and pin is None:
        pin = Pin.TEMP_TABLE  # SELECT INTO TEMP
    return Decision(
        PRIMARY,
        findings.reason,
        pin=pin,
        detail=findings.detail,
        known_write=findings.reason in KNOWN_WRITES,
        exact=findings.exact or findings.sets,
        effects=tuple(findings.effects),
        asks_sequence=findings.asks_sequence,
        gives_sequence=findings.gives_sequence,
        anywhere=findings.is_read_but_for_settings,
        may_unpin=findings.may_unpin,
        writes=0 if findings.writes_nothing else -1,
        acts=NOTIFIED if findings.notifies else (),
    )


def _changing(tree: Tree, reason: Reason, detail: str, lookup: Lookup) -> Decision:
    """A statement known to write; the functions in it may still pin the session."""
    findings = Findings(lookup)
    findings.found(reason, detail)
    findings.look(tree)
    return _doing(findings, reason, detail, known_write=True)


def _call(node: Tree, lookup: Lookup) -> Decision:
    """What the procedure does is not known, but what its arguments do."""
    findings = Findings(lookup)
    findings.look(node["funccall"].get("args", []))
    return _doing(findings, Reason.CALL, "CALL", known_write=False)


def _doing(findings: Findings, reason: Reason, detail: str, *, known_write: bool) -> Decision:
    """A statement that does more than what is found in it, for the primary. What current_setting
    says does not matter there."""
    return Decision(
        PRIMARY,
        reason,
        pin=findings.pin,
        detail=detail,
        known_write=known_write,
        exact=findings.sets,
        effects=tuple(findings.effects),
        asks_sequence=findings.asks_sequence,
        gives_sequence=findings.gives_sequence,
        may_unpin=findings.may_unpin,
        acts=NOTIFIED if findings.notifies else (),
    )


def _explain(node: Tree, lookup: Lookup) -> Decision:
    query = node["query"]
    analyze = [option for option in node.get("options", []) if option_name(option) == "analyze"]
    if analyze and _is_on(analyze[-1]):  # the last one counts
        inner = decide_statement(query, lookup)
        if inner.target == PRIMARY:
            return inner
        return Decision(
            REPLICA,
            Reason.EXPLAIN,
            detail="ANALYZE of a read",
            movable=inner.movable,
            exact=inner.exact,
        )
    executed = _executed(query)
    if executed is not None:
        return _execute(executed, lookup, runs=False)
    findings = Findings(lookup)
    findings.explains = True
    findings.look(query)
    if findings.is_about_temporary:
        return Decision(PRIMARY, Reason.TEMP_TABLE, detail="EXPLAIN")
    if findings.unfit is not None:
        # It is opened to be planned, which a standby refuses for what is unlogged.
        reason, detail = findings.unfit
        return Decision(PRIMARY, reason, detail=f"EXPLAIN: {detail}")
    if findings.planned:
        # The planner wants to know the results of functions that are not volatile.
        return Decision(PRIMARY, Reason.VOLATILE_FUNCTION, detail=f"EXPLAIN: {findings.planned}")
    return Decision(REPLICA, Reason.EXPLAIN, movable=True)


def _is_on(option: Tree) -> bool:
    """Whether an option that takes a Boolean is on, or might be: defGetBoolean() in PostgreSQL."""
    argument = option["DefElem"].get("arg")
    if argument is None:
        return True
    if "Integer" in argument:
        return bool(argument["Integer"].get("ival", 0) != 0)
    word = str(argument.get("String", {}).get("sval", ""))
    return word.lower() not in {"false", "off"}


def _copy(node: Tree, lookup: Lookup) -> Decision:
    if node.get("is_from"):
        return _changing({"CopyStmt": node}, Reason.COPY_IN, "COPY FROM", lookup)
    if node.get("is_program") or "filename" in node:
        detail = "COPY TO a file or program"
        return _changing({"CopyStmt": node}, Reason.COPY_FILE, detail, lookup)
    if "query" in node:
        return _read(node["query"], Reason.COPY_OUT, lookup)
    return _read({"RangeVar": node["relation"]}, Reason.COPY_OUT, lookup)


def _declare(node: Tree, lookup: Lookup) -> Decision:
    hold = bool(int(node.get("options", 0)) & _CURSOR_OPT_HOLD)
    findings = Findings(lookup)
    findings.look(node["query"])
    reason = Reason.CURSOR
    detail = "DECLARE CURSOR WITH HOLD" if hold else "DECLARE CURSOR"
    known_write = False
    if findings.reason is not None and findings.reason in KNOWN_WRITES:
        reason = findings.reason
        detail = findings.detail
        known_write = True
    pins = [findings.pin] if findings.pin is not None else []
    if hold:
        pins.append(Pin.HOLD_CURSOR)
    return Decision(
        PRIMARY,
        reason,
        pin=lasting_pin(pins),
        detail=detail,
        known_write=known_write,
        effects=tuple(findings.effects),
    )


def _prepare(node: Tree, lookup: Lookup) -> Decision:
    """Any server can check a text that it may run. What EXECUTE does is what the text does."""
    inner = decide_statement(node["query"], lookup)
    types = Findings(lookup)
    types.look(node.get("argtypes", []))
    if inner.target == REPLICA and types.reason is not None:
        inner = _from_findings(types, Reason.READ)
    use = NameUse(PREPARES, node["name"].encode(), decision=inner)
    return _naming(int(inner.target), "PREPARE", use)


def _execute(node: Tree, lookup: Lookup, *, runs: bool = True) -> Decision:
    """Where it goes the statement of that name decides, and what its arguments call."""
    findings = Findings(lookup)
    findings.look(node.get("params", []))
    use = NameUse(EXECUTES, node["name"].encode(), runs=runs)
    reads = _from_findings(findings, Reason.READ if runs else Reason.EXPLAIN)
    return Decision(
        PRIMARY,
        Reason.EXECUTE,
        pin=findings.pin,
        detail="EXECUTE" if runs else "EXPLAIN EXECUTE",
        names=Names((use,), reads),
    )


def _executed(query: Tree) -> Tree | None:
    """The EXECUTE in what is explained, or in CREATE TABLE AS."""
    if "CreateTableAsStmt" in query:
        query = query["CreateTableAsStmt"]["query"]
    return query.get("ExecuteStmt")


def _ddl(node_type: str, node: Tree, lookup: Lookup) -> Decision:
    decision = decide_ddl(node_type, node, lookup)
    if node_type != "CreateTableAsStmt" or "ExecuteStmt" not in node["query"]:
        return decision
    use = NameUse(EXECUTES, node["query"]["ExecuteStmt"]["name"].encode())
    return decision.naming(Names((use,), decision))


def _deallocate(node: Tree) -> Decision:
    name = str(node.get("name", ""))
    if not name:
        return _naming(REPLICA, "DEALLOCATE ALL", NameUse(DEALLOCATES_ALL), DEALLOCATE)
    return _naming(REPLICA, f"DEALLOCATE {name}", NameUse(DEALLOCATES, name.encode()), DEALLOCATE)


def _discard(node: Tree) -> Decision:
    target = str(node["target"]).removeprefix("DISCARD_")
    if target == "ALL":
        everything = Decision(
            PRIMARY,
            Reason.SESSION_STATE,
            detail="DISCARD ALL",
            discards=True,
            again=NEVER,
            effects=DISCARD_ALL_EFFECTS,
            anywhere=True,
            may_unpin=True,
            acts=((UNLISTEN_ALL, b""),),
        )
        return everything.naming(Names((NameUse(DEALLOCATES_ALL),), everything))
    return Decision(
        PRIMARY, Reason.SESSION_STATE, detail=f"DISCARD {target}", anywhere=True, may_unpin=True
    )


def _naming(target: int, detail: str, use: NameUse, kind: int = PLAIN) -> Decision:
    """The decision for a statement that does that with a name, and nothing else."""
    decision = Decision(
        target, Reason.SESSION_STATE, kind=kind, detail=detail, again=NEVER, anywhere=True
    )
    return decision.naming(Names((use,), decision))


def _do(node: Tree) -> Decision:
    body = " ".join(
        option["DefElem"].get("arg", {}).get("String", {}).get("sval", "")
        for option in node.get("args", [])
    )
    pin = Pin.DO_BLOCK if _SESSION_WORDS.search(body) else None
    renews = DOUBTS if _DDL_WORDS.search(body) else 0
    return Decision(PRIMARY, Reason.DO, pin=pin, detail="DO", renews=renews)


SPECIAL: Final[dict[str, Callable[[Tree], Decision]]] = {
    "DeallocateStmt": _deallocate,
    "DiscardStmt": _discard,
    "DoStmt": _do,
    "ListenStmt": _listen,
    "NotifyStmt": _notify,
    "TransactionStmt": decide_transaction,
    "UnlistenStmt": _unlisten,
    "VariableSetStmt": decide_set,
    "VariableShowStmt": decide_show,
}
# Those in which names decide.
LOOKING: Final[dict[str, Callable[[Tree, Lookup], Decision]]] = {
    "CallStmt": _call,
    "CopyStmt": _copy,
    "DeclareCursorStmt": _declare,
    "ExecuteStmt": _execute,
    "ExplainStmt": _explain,
    "PrepareStmt": _prepare,
}
