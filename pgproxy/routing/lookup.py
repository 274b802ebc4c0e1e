"""What a name in a statement stands for, as far as a read may use it. PURE.

`Lookup` knows PostgreSQL's own objects alone, by the lists of functions.py; what it is not sure of is
no read. It serves while a database's catalogue is not loaded; `Namespace` (namespace.py) knows more.
"""

import re
from collections.abc import Iterable
from typing import Final, final

from pgproxy.routing.builtins import OPERATORS
from pgproxy.routing.functions import (
    function_reason,
    is_view_of_the_primary,
    type_reason,
)
from pgproxy.routing.pins import Pin
from pgproxy.routing.reasons import Reason

# What `routing.read_functions` may overrule: to write is not what keeps these from a replica.
NOT_SHOWN: Final = frozenset({Reason.VOLATILE_FUNCTION, Reason.UNKNOWN_FUNCTION})


@final
class Verdict:
    """Why what a name stands for is no read. `reason` None: it is one, but what it tells is of the
    transaction (Decision.movable). `is_local`: no read on another server could miss what it does;
    `pin`: what using it leaves in the session; `when_planned`: planning may run it, for it is
    declared STABLE or IMMUTABLE."""

    def __init__(
        self,
        reason: Reason | None,
        detail: str,
        *,
        is_local: bool = False,
        pin: Pin | None = None,
        when_planned: bool = False,
    ) -> None:
        self.reason = reason
        self.detail = detail
        self.is_local = is_local
        self.pin = pin
        self.when_planned = when_planned

    def __repr__(self) -> str:
        reason = "movable" if self.reason is None else self.reason.value
        return f"<Verdict {reason} {self.detail!r}>"


OF_THE_TRANSACTION: Final = Verdict(None, "")


@final
class FunctionLists:
    """The user's own lists: regular expressions that match a whole name, with its schema or
    without, as Pgpool-II's read_only_function_list and write_function_list."""

    def __init__(self, reads: Iterable[str] = (), writes: Iterable[str] = ()) -> None:
        self._reads = [re.compile(pattern) for pattern in reads]
        self._writes = [re.compile(pattern) for pattern in writes]

    def reads(self, names: list[str]) -> bool:
        return _matches(self._reads, names)

    def writes(self, names: list[str]) -> bool:
        return _matches(self._writes, names)


def _matches(patterns: "list[re.Pattern[str]]", names: list[str]) -> bool:
    if not patterns:
        return False
    qualified = ".".join(names)
    return any(one.fullmatch(names[-1]) or one.fullmatch(qualified) for one in patterns)


class Lookup:
    """The answers of PostgreSQL's own lists. None: a read may use it."""

    def __init__(self, lists: FunctionLists) -> None:
        self.lists = lists
        # Why no statement is a read that uses anything of the users' own; "" in most databases.
        self.implicit = ""

    def function(self, names: list[str], arity: int) -> Verdict | None:
        """A call with that many arguments; schema, if any, and name."""
        if self.lists.writes(names):
            detail = f"function {'.'.join(names)}, by routing.write_functions"
            return Verdict(Reason.WRITING_FUNCTION, detail)
        reason = function_reason(names)
        verdict = None if reason is None else Verdict(reason, f"function {'.'.join(names)}")
        if reason is None or reason is Reason.UNKNOWN_FUNCTION:
            verdict = self.users_function(names, arity, verdict)
        if verdict is None or (verdict.reason in NOT_SHOWN and self.lists.reads(names)):
            return None
        return verdict

    def users_function(
        self, names: list[str], arity: int, verdict: Verdict | None
    ) -> Verdict | None:
        """What the database says of a name of which PostgreSQL's own list says this."""
        return verdict

    def operator(self, names: list[str]) -> Verdict | None:
        if names[-1] in OPERATORS and names[:-1] in ([], ["pg_catalog"]):
            return None
        return Verdict(Reason.UNKNOWN_OPERATOR, f"operator {'.'.join(names)}")

    def type(self, names: list[str]) -> Verdict | None:
        """A type to which something is cast."""
        reason = type_reason(names)
        return None if reason is None else Verdict(reason, f"type {'.'.join(names)}")

    def relation(self, schema: str, name: str) -> Verdict | None:
        """A table, view, … (or the name of a WITH query); `schema` is "" if none is said."""
        if is_view_of_the_primary(name, schema):
            return Verdict(Reason.PRIMARY_FUNCTION, f"view {name}", is_local=True)
        return None

    def attribute(self, _name: str) -> Verdict | None:
        """A column, or a function called on a row: t.f is f(t) if t has no such column."""
        return None


BUILT_IN: Final = Lookup(FunctionLists())


def is_of_postgresql(schema: str, name: str) -> bool:
    """Whether a relation is most likely PostgreSQL's own."""
    return schema in ("pg_catalog", "information_schema") or (
        schema == "" and name.startswith("pg_")
    )
