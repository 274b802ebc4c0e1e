"""What a statement's parse tree holds that keeps it from being a read. PURE.

The tree is that of PostgreSQL's own parser, as libpg_query writes it in JSON: a node is an object
with one member named by the node's type, `{"FuncCall": {…}}`, and a member whose type is fixed by
the grammar stands without that name: `"typeName": {…}`. `Findings.look` walks all of it. It is a
white list: a node it does not know is no read.

Literals do not decide, so that statements that differ in them only have one decision; where one
does (`exact`), the decision stands for that text alone.
"""

from typing import Any, Final, final

from pgproxy.protocol.settings import Effect, is_custom, names_set, setting_name
from pgproxy.routing.functions import (
    OF_OWN_SEQUENCES,
    PINS,
    ROLE_SETTINGS,
    SEQUENCE_COLUMNS,
    SERVER_SETTINGS,
    TIMELESS,
    TO_OWN_SEQUENCES,
    function_reason,
    is_of_the_transaction,
    is_temporary,
    is_view_of_the_transaction,
    type_reason,
)
from pgproxy.routing.lookup import BUILT_IN, Lookup, Verdict, is_of_postgresql
from pgproxy.routing.pins import Pin, lasting_pin
from pgproxy.routing.reasons import Reason

# JSON, as json.loads makes it.
Tree = Any

# Nodes that a read may hold and that say nothing themselves; what is inside them is looked at.
PLAIN_NODES: Final = frozenset(
    """
    A_ArrayExpr A_Const A_Indices A_Star Alias BitString BoolExpr Boolean BooleanTest
    CaseExpr CaseWhen CoalesceExpr CollateClause ColumnDef CommonTableExpr Float
    GroupingFunc GroupingSet Integer JoinExpr List MinMaxExpr NamedArgExpr NullTest ParamRef
    RangeFunction RangeSubselect RangeTableFunc RangeTableFuncCol ResTarget RowExpr
    SelectStmt SortBy String SubLink TypeCast WindowDef XmlExpr XmlSerialize
    JsonAggConstructor JsonArgument JsonArrayAgg JsonArrayConstructor JsonArrayQueryConstructor
    JsonBehavior JsonFormat JsonFuncExpr JsonIsPredicate JsonKeyValue JsonObjectAgg
    JsonObjectConstructor JsonOutput JsonParseExpr JsonReturning JsonScalarExpr JsonSerializeExpr
    JsonTable JsonTableColumn JsonTablePathSpec JsonValueExpr
    """.split()
)

# Of those, what compares without naming the operator.
COMPARING: Final = frozenset({"CaseExpr", "JoinExpr", "SubLink"})

# What fills a row of the type of its first argument, with all checks of the columns' types.
FILLING: Final = frozenset(
    """
    json_populate_record json_populate_recordset jsonb_populate_record jsonb_populate_record_valid
    jsonb_populate_recordset
    """.split()
)

DATA_CHANGES: Final = {
    "InsertStmt": "INSERT",
    "UpdateStmt": "UPDATE",
    "DeleteStmt": "DELETE",
    "MergeStmt": "MERGE",
}

LOCK_STRENGTHS: Final = {
    "LCS_FORKEYSHARE": "FOR KEY SHARE",
    "LCS_FORSHARE": "FOR SHARE",
    "LCS_FORNOKEYUPDATE": "FOR NO KEY UPDATE",
    "LCS_FORUPDATE": "FOR UPDATE",
}

# The rules that no hint overrules.
KNOWN_WRITES: Final = frozenset(
    {
        Reason.WRITE,
        Reason.LOCKING_CLAUSE,
        Reason.LOCK,
        Reason.DDL,
        Reason.MAINTENANCE,
        Reason.COPY_IN,
        Reason.COPY_FILE,
        Reason.NOTIFY,
        Reason.TWO_PHASE,
        Reason.WRITING_FUNCTION,
    }
)
_SESSION_RULES: Final = frozenset({Reason.SESSION_STATE, Reason.TEMP_TABLE})


def _rank(reason: Reason) -> int:
    if reason in KNOWN_WRITES:
        return 2
    return 1 if reason in _SESSION_RULES else 0


def strings(names: Tree) -> list[str]:
    """The texts of a list of String nodes: the parts of a qualified name."""
    return [str(name["String"].get("sval", "")) for name in names if "String" in name]


@final
class Findings:
    """What was found in one statement: the strongest rule, the first pin. What its names stand for
    `lookup` says."""

    def __init__(self, lookup: Lookup = BUILT_IN) -> None:
        self._lookup = lookup
        self._uses_users_own = False  # tables, functions, types, operators
        self._attributes: list[str] = []  # of what may be no row, but a function's result
        self._has_table_function = False
        self.reason: Reason | None = None
        self.detail = ""
        self.pin: Pin | None = None
        self.exact = False
        self.makes_temporary = False  # SELECT INTO TEMP
        self.effects: list[Effect] = []  # of set_config on the session's settings
        self.asks_sequence = False  # currval, lastval
        self.gives_sequence = False  # nextval, setval
        self.may_unpin = False  # it may take away what the session is pinned for
        self.sets = False  # it calls set_config: the literals decide which settings
        self.sets_surely = False  # and nothing else (Effect.surely)
        self._others = False  # something else keeps it from a replica
        self._writes = False  # something in it may write what a later read could miss
        self.notifies = False  # calls pg_notify
        self.planned = ""  # what planning it may run, though no replica can
        self.explains = False  # it is only planned; only then the next two are found
        self.is_about_temporary = False
        # Why a relation among those that are named may not even be planned for on a standby.
        self.unfit: tuple[Reason, str] | None = None
        # What it tells is not of the transaction, nor of where that runs (Decision.movable).
        self.movable = True

    @property
    def is_read(self) -> bool:
        """Whether nothing was found that keeps the statement from a replica."""
        return self.reason is None

    @property
    def is_read_but_for_settings(self) -> bool:
        """Whether all that keeps the statement from a replica is that it sets settings."""
        return self.sets and not self._others

    @property
    def writes_nothing(self) -> bool:
        """Whether nothing that it does could be missed by a later read."""
        return not self._writes

    def found(self, reason: Reason, detail: str, *, is_local: bool = False) -> None:
        """Keeps the rule if it is stronger than what was found before. `is_local`: no read on
        another server could miss what it does."""
        self._others = True
        if not is_local:
            self._writes = True
        self._keep(reason, detail)

    def _keep(self, reason: Reason, detail: str) -> None:
        if self.reason is None or _rank(reason) > _rank(self.reason):
            self.reason = reason
            self.detail = detail

    def look(self, tree: Tree) -> None:
        """Walks a tree, in the order of the text. Recursion would end at Python's limit."""
        todo: list[Tree] = [tree]
        while todo:
            item = todo.pop()
            if isinstance(item, dict):
                if self.explains:
                    self._explained(item)
                inner: list[Tree] = []
                for key, value in item.items():
                    self._member(key, value)
                    if isinstance(value, (dict, list)):
                        inner.append(value)
                inner.reverse()
                todo.extend(inner)
            elif isinstance(item, list):
                todo.extend(reversed(item))
        if self._has_table_function:
            for name in self._attributes:
                self._attribute(name)
        if self._lookup.implicit and self._uses_users_own:
            self.found(Reason.VOLATILE_FUNCTION, self._lookup.implicit)

    def _explained(self, node: Tree) -> None:
        if _has_temporary(node):
            self.is_about_temporary = True
        name = node.get("relname")
        if isinstance(name, str) and self.unfit is None:
            verdict = self._lookup.relation(node.get("schemaname", ""), name)
            if verdict is not None and verdict.reason is not None and not verdict.is_local:
                self.unfit = (verdict.reason, verdict.detail)

    def _member(self, key: str, value: Tree) -> None:
        if key in PLAIN_NODES:
            if key in COMPARING:
                self._comparison(key, value)
            elif key == "RangeFunction":
                self._has_table_function = True
            return
        if key[0].isupper():
            self._node(key, value)
        elif key == "typeName":
            self._type(value)
        elif key == "intoClause":
            self.found(Reason.WRITE, "SELECT INTO")
            if is_temporary(value["rel"].get("schemaname", "")):
                self.makes_temporary = True
        elif key == "relpersistence":
            if value == "t":
                self.makes_temporary = True
        elif key == "schemaname":
            if is_temporary(value):
                self.found(Reason.TEMP_TABLE, f"schema {value}")
        elif key in {"operName", "useOp"}:
            self._operator(strings(value))

    def _node(self, key: str, node: Tree) -> None:
        if key == "A_Expr":
            if "BETWEEN" in node["kind"]:
                for name in ("<", "<=", ">", ">="):
                    self._operator([name])
            else:
                self._operator(strings(node.get("name", [])))
        elif key == "ColumnRef":
            parts = strings(node["fields"])
            if parts and parts[-1] in SEQUENCE_COLUMNS:
                self.found(Reason.PRIMARY_FUNCTION, f"column {parts[-1]}", is_local=True)
            if len(parts) > 1:
                self._heed(self._lookup.attribute(parts[-1]))
                self._attributes.append(parts[-1])
        elif key == "A_Indirection":
            for name in strings(node.get("indirection", [])):
                self._attribute(name)
        elif key == "RangeVar":
            schema, name = node.get("schemaname", ""), node["relname"]
            if not is_of_postgresql(schema, name):
                self._uses_users_own = True
            if is_view_of_the_transaction(name):
                self.movable = False
            self._heed(self._lookup.relation(schema, name))
        elif key == "SQLValueFunction":
            if node["op"] not in TIMELESS:
                self.movable = False
        elif key == "FuncCall":
            self._call(node)
        elif key == "TypeName":
            self._type(node)
        elif key in DATA_CHANGES:
            self.found(Reason.WRITE, DATA_CHANGES[key])
            # A rule on this view makes UPDATE a set_config().
            if key == "UpdateStmt" and node["relation"].get("relname") == "pg_settings":
                self._pin(Pin.SET)
        elif key == "LockingClause":
            self.found(Reason.LOCKING_CLAUSE, LOCK_STRENGTHS.get(node["strength"], "FOR …"))
        elif key == "RangeTableSample":
            method = strings(node.get("method", []))
            if method not in (["system"], ["bernoulli"]):
                self.found(Reason.UNKNOWN_FUNCTION, f"function {'.'.join(method)}")
        else:
            self.found(Reason.UNKNOWN_SYNTAX, key)

    def _comparison(self, key: str, node: Tree) -> None:
        """x IN (SELECT …), CASE x WHEN y, JOIN USING and NATURAL JOIN find their = by the path."""
        if key == "SubLink":
            compares = "testexpr" in node and "operName" not in node
        elif key == "CaseExpr":
            compares = "arg" in node
        else:
            compares = "usingClause" in node or "isNatural" in node
        if compares:
            self._operator(["="])

    def _attribute(self, name: str) -> None:
        """x.f is f(x), whatever x is, where it has no such column."""
        verdict = self._lookup.function([name], 1)
        if verdict is None or verdict.reason is Reason.UNKNOWN_FUNCTION:
            return
        if verdict.reason is None:
            self._heed(verdict)
        else:
            self._function([name], [], verdict, verdict.reason)

    def _operator(self, names: list[str]) -> None:
        if names:
            self._heed(self._lookup.operator(names))

    def _type(self, node: Tree) -> None:
        names = strings(node.get("names", [])) or [""]
        if type_reason(names) is not None:
            self._uses_users_own = True
        self._heed(self._lookup.type(names))

    def _heed(self, verdict: Verdict | None) -> None:
        if verdict is None:
            return
        if verdict.reason is None:
            self.movable = False
            return
        if verdict.when_planned:
            self.planned = verdict.detail
        self.found(verdict.reason, verdict.detail, is_local=verdict.is_local)
        if verdict.pin is not None:
            self._pin(verdict.pin)

    def _call(self, node: Tree) -> None:
        names = strings(node["funcname"])
        arguments = node.get("args", [])
        arity = len(arguments)
        if node.get("agg_within_group"):
            arity += len(node.get("agg_order", []))  # which are arguments as well
        verdict = self._lookup.function(names, arity)
        if function_reason(names) is Reason.UNKNOWN_FUNCTION:
            self._uses_users_own = True
            self.movable = False  # it may call now()
        if verdict is not None and verdict.reason is not None:
            self._function(names, arguments, verdict, verdict.reason)
        elif names[-1] == "current_setting":
            self._current_setting(arguments)
        elif is_of_the_transaction(names[-1]):
            self.movable = False
        elif names[-1] in FILLING and arguments and "TypeCast" not in arguments[0]:
            self.found(Reason.VOLATILE_FUNCTION, f"function {names[-1]}, of a row as it is")

    def _function(
        self, names: list[str], arguments: Tree, verdict: Verdict, reason: Reason
    ) -> None:
        name = names[-1]
        if verdict.when_planned:
            self.planned = verdict.detail
        if reason is Reason.SESSION_STATE and name == "set_config":
            self._set_config(arguments)
            return
        if name == "pg_notify":
            self.notifies = True
        is_lock = reason is Reason.WRITING_FUNCTION and "advisory" in name
        is_local = is_lock or reason is Reason.PRIMARY_FUNCTION or name == "pg_notify"
        self.found(reason, verdict.detail, is_local=is_local)
        if name in OF_OWN_SEQUENCES and reason is Reason.PRIMARY_FUNCTION:
            self.asks_sequence = True
        if name in TO_OWN_SEQUENCES and reason is not Reason.UNKNOWN_FUNCTION:
            self.gives_sequence = True
        if is_lock and "unlock" in name:
            self.may_unpin = True
        pin = PINS.get(name) if reason is not Reason.UNKNOWN_FUNCTION else None
        if pin is None:
            return
        self._pin(pin)

    def _set_config(self, arguments: Tree) -> None:
        self.sets = True
        self._keep(Reason.SESSION_STATE, "function set_config")
        local = _is_true(arguments[2:])
        name = setting_name(_text(arguments[:1]))
        parameter = 0 if name else _parameter(arguments[:1])
        if name:
            names = names_set(name)
            if name == "seed":
                self._pin(Pin.SETSEED)
            elif names and not (local and not is_custom(name)):
                resets = _is_null(arguments[1:2])
                surely = self.sets_surely
                self.effects.append(Effect(names, resets=resets, local=local, surely=surely))
        elif parameter:
            surely = self.sets_surely
            self.effects.append(Effect((), local=local, parameter=parameter, surely=surely))
        else:
            self._pin(Pin.SET_CONFIG)

    def _pin(self, pin: Pin) -> None:
        self.pin = pin if self.pin is None else lasting_pin([self.pin, pin])

    def _current_setting(self, arguments: Tree) -> None:
        self.exact = True
        if not arguments:
            self.movable = False
            return
        constant = setting_name(_text(arguments[:1]))
        if not constant or constant in SERVER_SETTINGS:
            self.movable = False
        if constant in ROLE_SETTINGS:
            self.found(Reason.SERVER_ROLE, f"setting {constant}", is_local=True)


def sets_all_or_nothing(select: Tree) -> bool:
    """Whether a SELECT does nothing but to set settings, so that those that are not PostgreSQL's own
    are all set if it succeeds, and none if it fails. Such a setting takes any text; others refuse
    some, and must come first."""
    if len(select) > 3:  # those of every SELECT: targetList, limitOption, op
        return False
    targets = select.get("targetList", [])
    behind_custom = False
    for target in targets:
        call = target.get("ResTarget", {}).get("val", {}).get("FuncCall", {})
        arguments = call.get("args", [])
        names = strings(call.get("funcname", []))
        if names not in (["set_config"], ["pg_catalog", "set_config"]):
            return False
        if not all(_is_given(argument) for argument in arguments):
            return False
        name = setting_name(_text(arguments[:1]))
        if (behind_custom or not name) and not is_custom(name) and len(targets) > 1:
            return False
        behind_custom = behind_custom or is_custom(name)
    return len(targets) > 0


def _is_given(argument: Tree) -> bool:
    """Whether it is a constant or a parameter as it stands: there is nothing to be computed."""
    while "TypeCast" in argument and _keeps_text(argument["TypeCast"]["typeName"]):
        argument = argument["TypeCast"]["arg"]
    return "A_Const" in argument or "ParamRef" in argument


def is_about_temporary(tree: Tree) -> bool:
    """Whether a statement of any kind makes or names something temporary."""
    todo: list[Tree] = [tree]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, dict):
            if _has_temporary(item):
                return True
            todo.extend(item.values())
    return False


def _has_temporary(node: Tree) -> bool:
    """The same of one node, without those in it."""
    # The grammar gives a table that is only named the persistence "p".
    if node.get("relpersistence") == "t":
        return True
    for key in ("schemaname", "sval"):
        name = node.get(key)
        if isinstance(name, str) and is_temporary(name):
            return True
    return False


def _text(arguments: Tree) -> str:
    """The one argument left, if it is a string constant; else ""."""
    if len(arguments) != 1:
        return ""
    node = arguments[0]
    while "TypeCast" in node and _keeps_text(node["TypeCast"]["typeName"]):
        node = node["TypeCast"]["arg"]
    return str(node.get("A_Const", {}).get("sval", {}).get("sval", ""))


def _keeps_text(type_name: Tree) -> bool:
    """Whether a cast to this type leaves a text as it is: name and varchar(4) cut it off."""
    names = strings(type_name.get("names", []))
    is_text = names[-1:] in (["text"], ["varchar"]) and names[:-1] in ([], ["pg_catalog"])
    return is_text and "typmods" not in type_name and "arrayBounds" not in type_name


def _is_null(arguments: Tree) -> bool:
    """Whether the one argument left is the constant NULL."""
    return len(arguments) == 1 and bool(arguments[0].get("A_Const", {}).get("isnull", False))


def _parameter(arguments: Tree) -> int:
    """The number of the parameter that the one argument left is; else 0."""
    if len(arguments) != 1:
        return 0
    node = arguments[0]
    while "TypeCast" in node and _keeps_text(node["TypeCast"]["typeName"]):
        node = node["TypeCast"]["arg"]
    return int(node.get("ParamRef", {}).get("number", 0))


def _is_true(arguments: Tree) -> bool:
    """Whether the one argument left is the keyword TRUE; a parameter may be anything."""
    if len(arguments) != 1:
        return False
    return bool(arguments[0].get("A_Const", {}).get("boolval", {}).get("boolval", False))
