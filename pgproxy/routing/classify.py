"""A statement text -> its decision, made from the text alone. PURE.

`classify` parses with PostgreSQL's own grammar; the router calls it once for every text, or lexical
key, that it has not seen. What is too long to parse within a turn of the event loop is judged by
its first word and by the words that may leave something in the session.

What cannot be seen here: what the functions, procedures, views and triggers that a statement uses
do inside. A function that is not PostgreSQL's own therefore goes to the primary, but session state
that it leaves behind (a set_config in its body) is not noticed.
"""

import re
from typing import Final, cast

from mypy_extensions import i64
from pglast.parser import ParseError

from pgproxy.protocol.named import Names
from pgproxy.routing.decision import (
    EMPTY,
    LISTEN,
    NEVER,
    NO_HINT,
    PLAIN,
    PRIMARY,
    REPLICA,
    SET_ROUTE,
    UNLISTEN,
    Decision,
    pin_among_others,
)
from pgproxy.routing.hints import hint_of
from pgproxy.routing.lexer import first_word, is_one_statement
from pgproxy.routing.lookup import BUILT_IN, Lookup
from pgproxy.routing.parsing import part_of, statements_of
from pgproxy.routing.pins import Pin, lasting_pin
from pgproxy.routing.reads import Tree
from pgproxy.routing.reasons import Reason
from pgproxy.routing.statements import decide_statement

# Up to here a text is parsed: about 5 us per byte at worst, and every client waits meanwhile.
PARSE_LIMIT: Final = 32768
# A longer INSERT is a list of values, of which the parser would tell nothing that its first word
# does not; most texts of this length are one.
SHORT: Final = 4096

DATA_CHANGING_WORDS: Final = frozenset({"insert", "update", "delete", "merge"})
READING_WORDS: Final = frozenset({"select", "with", "values", "table", "copy", "("})

# Every name of functions.PINS holds one of these (a test says so); a rule on pg_settings makes
# UPDATE a set_config(); U&"…" may spell any of them.
SESSION_STEMS: Final = (
    b"set_config",
    b"setseed",
    b"advisory_lock",
    b"currval",
    b"lastval",
    b"replication_",
    b"backup_start",
    b"pg_settings",
    b'u&"',
)
_TEMPORARY: Final = re.compile(rb"\b(?:temp|temporary|pg_temp\w*)\b")

# PRIMARY is a reserved word: where it stands without quotes the grammar does not take it for a value.
_SET_ROUTE_TO_PRIMARY: Final = re.compile(
    rb"\s*SET\s+(?:(LOCAL|SESSION)\s+)?pgproxy\.route(?:\s*=|\s+TO\s)\s*PRIMARY\s*;?\s*",
    re.IGNORECASE,
)

EMPTY_DECISION: Final = Decision(REPLICA, Reason.EMPTY, kind=EMPTY, movable=True)


def classify(sql: bytes, parse_limit: i64 = PARSE_LIMIT, lookup: Lookup = BUILT_IN) -> Decision:
    """Where the statement(s) in `sql` go. Never raises.

    `sql` is in UTF-8 or any other encoding in which ASCII bytes are ASCII characters; the caller
    does not bring texts of the other encodings here. `lookup`: what its names stand for.
    """
    length: i64 = len(sql)
    if length > parse_limit:
        return under_hint(sql, [_unparsed(sql, Reason.TOO_LONG, f"{length} bytes")])
    if length > SHORT:
        word = first_word(sql)
        if word in DATA_CHANGING_WORDS and not leaves_state(sql):
            change = Decision(PRIMARY, Reason.WRITE, detail=word.upper(), known_write=True)
            return under_hint(sql, [change])
    try:
        text, statements = statements_of(sql)
    except ParseError as error:
        route = _SET_ROUTE_TO_PRIMARY.fullmatch(sql)
        if route is not None:
            return _set_route_to_primary(route)
        return under_hint(sql, [_unparsable(str(error.args[0] if error.args else error))])
    except RecursionError:
        return under_hint(sql, [_unparsed(sql, Reason.TOO_DEEP, "")])
    except ValueError as error:
        return under_hint(sql, [_unparsable(str(error))])
    decisions = [decide_statement(statement["stmt"], lookup) for statement in statements]
    if len(decisions) == 1 and decisions[0].kind in (LISTEN, UNLISTEN) and not _is_utf8(sql):
        # What the name is in the server's encoding only the server can tell.
        decisions[0] = _for_the_server(decisions[0])
    uses_names = any(decision.names is not None for decision in decisions)
    # With standard_conforming_strings off, \' does not end a string.
    if b"\\'" in sql and not is_one_statement(sql):
        if uses_names:
            return under_hint(sql, [_unparsed(sql, Reason.AMBIGUOUS_QUOTING, "")])
        decisions = [_ambiguous(decision) for decision in decisions]
    if uses_names:
        return _with_names(sql, text, statements, decisions)
    return under_hint(sql, decisions)


def _with_names(
    sql: bytes, text: bytes, statements: list[Tree], decisions: list[Decision]
) -> Decision:
    """The decision for a text that names prepared statements."""
    encoding = "utf-8" if text == sql else "latin-1"
    uses = []
    for index, decision in enumerate(decisions):
        if decision.names is None:
            continue
        part = sql if len(statements) == 1 else part_of(text, statements[index])
        if len(statements) > 1 and encoding != "utf-8":
            part = part.decode().encode(encoding)
        uses.extend(
            [
                use.placed(index, use.name.decode().encode(encoding), part)
                for use in decision.names.uses
            ]
        )
    reads = [
        decision if decision.names is None else cast(Decision, decision.names.reads)
        for decision in decisions
    ]
    names = Names(tuple(uses), under_hint(sql, reads).naming(None))
    return under_hint(sql, decisions).naming(names)


def classify_beginning(sql: bytes) -> Decision:
    """Where a text goes that is too long to be held and of which `sql` is the beginning.

    What follows may be anything, so the session is pinned. Never raises.
    """
    known_write = first_word(sql) in DATA_CHANGING_WORDS
    return Decision(
        PRIMARY,
        Reason.TOO_LONG,
        pin=Pin.UNPARSED,
        detail=f"more than {len(sql)} bytes",
        unparsed=True,
        known_write=known_write,
    )


def _is_utf8(sql: bytes) -> bool:
    try:
        sql.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _for_the_server(decision: Decision) -> Decision:
    """LISTEN or UNLISTEN that the proxy does not answer itself."""
    return Decision(
        PRIMARY, decision.reason, pin=decision.pin, detail=decision.detail, known_write=True
    )


def combine(decisions: list[Decision]) -> Decision:
    """The decision for a text of several statements: they run on one server."""
    if not decisions:
        return EMPTY_DECISION
    if len(decisions) == 1:
        return decisions[0]
    starts = any(decision.starts_transaction for decision in decisions)
    ends = any(decision.ends_transaction for decision in decisions)
    number = 0
    for index, decision in enumerate(decisions):
        if decision.target == PRIMARY and (number == 0 or decision.known_write):
            number = index + 1
            if decision.known_write:
                break
    if number > 0:
        decisive = decisions[number - 1]
        target = PRIMARY
        reason = Reason.MULTI_STATEMENT_WITH_WRITE
        detail = f"statement {number}: {decisive.detail or decisive.reason.value}"
    elif starts or ends:
        target = PRIMARY
        reason = Reason.TRANSACTION_CONTROL
        detail = "a transaction among several statements"
    else:
        target = REPLICA
        reasons = {decision.reason for decision in decisions}
        reason = decisions[0].reason if len(reasons) == 1 else Reason.READ
        detail = ""
    return Decision(
        target,
        reason,
        kind=PLAIN,
        pin=lasting_pin([pin for pin in map(pin_among_others, decisions) if pin is not None]),
        detail=detail,
        discards=any(decision.discards for decision in decisions),
        changes_schema=any(decision.changes_schema for decision in decisions),
        renews=max([int(decision.renews) for decision in decisions]),
        known_write=any(decision.known_write for decision in decisions),
        may_follow=int(all(decision.may_follow for decision in decisions)),
        starts_transaction=starts,
        ends_transaction=ends,
        movable=target == REPLICA and all(decision.movable for decision in decisions),
        exact=any(decision.exact for decision in decisions),
        effects=tuple(
            effect.among_others() for decision in decisions for effect in decision.effects
        ),
        asks_sequence=any(decision.asks_sequence for decision in decisions),
        gives_sequence=any(decision.gives_sequence for decision in decisions),
        anywhere=all(decision.anywhere or decision.target == REPLICA for decision in decisions),
        may_unpin=any(decision.may_unpin for decision in decisions),
        uses_temporary=any(decision.uses_temporary for decision in decisions),
        changes_defaults=any(decision.changes_defaults for decision in decisions),
        writes=int(any(decision.may_write for decision in decisions)),
        acts=tuple(act for decision in decisions for act in decision.acts),
        # With a COMMIT among them part of it may be done for good.
        again=NEVER if ends else min(int(decision.again) for decision in decisions),
    )


def under_hint(sql: bytes, decisions: list[Decision]) -> Decision:
    """The decision for the statements together, and for the hint among their comments."""
    decision = combine(decisions)
    lowered = sql.lower()
    if b"dblink" in lowered or b"pg_terminate_backend" in lowered:
        decision = decision.never_again()
    hint = hint_of(sql)
    if hint == NO_HINT:
        return decision
    if decision.kind == EMPTY or decision.target == hint:
        return decision.hinted(hint, decision.target)
    if hint == REPLICA and not decision.may_follow:
        return decision.hinted(hint, decision.target)
    return decision.hinted(hint, hint)


def leaves_state(sql: bytes) -> bool:
    """Whether the text, not parsed, may do more than one statement of its kind does."""
    lowered = sql.lower()
    return any(stem in lowered for stem in SESSION_STEMS) or not is_one_statement(sql)


def _unparsed(sql: bytes, reason: Reason, detail: str) -> Decision:
    """The decision for a text that is not parsed, from its first word."""
    word = first_word(sql)
    changes = word in DATA_CHANGING_WORDS
    understood = (
        (changes or word in READING_WORDS)
        and not leaves_state(sql)
        and (changes or not _may_select_into_temporary(sql.lower()))
    )
    return Decision(
        PRIMARY,
        reason,
        pin=None if understood else Pin.UNPARSED,
        detail=detail,
        unparsed=not understood,
        known_write=changes,
    )


def _may_select_into_temporary(lowered: bytes) -> bool:
    return b"into" in lowered and _TEMPORARY.search(lowered) is not None


def _set_route_to_primary(route: "re.Match[bytes]") -> Decision:
    scope = route.group(1)
    local = scope is not None and scope.upper() == b"LOCAL"
    return Decision(
        PRIMARY, Reason.SET_ROUTE, kind=SET_ROUTE, tag=b"SET", argument="primary", local=local
    )


def _unparsable(message: str) -> Decision:
    return Decision(PRIMARY, Reason.UNPARSABLE, pin=Pin.UNPARSED, detail=message, unparsed=True)


def _ambiguous(decision: Decision) -> Decision:
    if decision.target == PRIMARY:
        return decision
    return Decision(PRIMARY, Reason.AMBIGUOUS_QUOTING, detail="\\' in a string")
