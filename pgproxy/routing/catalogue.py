"""What one database holds beyond PostgreSQL's own, as far as it decides where a read may run. PURE.

A `Catalogue` is filled once, from the primary (servers/catalogues.py), and never changed
afterwards; a newer one replaces it. A `Namespace` looks names up in it along a search_path, with
PostgreSQL's own lists behind it.

Whatever stands for more than a flag has a *definition*: a SELECT that runs what using the object
runs, with all names qualified: a view its query, a table with row security its policies, a domain
its checks. It is followed when the first statement uses the object, so loading parses nothing.

Where PostgreSQL picks one of several objects of a name by rules that need all types ("Function Type
Resolution", chapter 10), every one that it might pick counts: those of all schemas of the path that
take as many arguments. That is never less than what will run.
"""

from collections.abc import Iterable
from typing import Final, final

from pglast.parser import ParseError

from pgproxy.routing.decision import Pin, Reason
from pgproxy.routing.functions import type_reason
from pgproxy.routing.lookup import OF_THE_TRANSACTION, FunctionLists, Lookup, Verdict
from pgproxy.routing.parsing import parse
from pgproxy.routing.reads import Findings

# Bytes of a definition that is followed; one that is longer is not shown to be a read.
LONGEST_DEFINITION: Final = 65536

# An overload in one number: volatile, least and most arguments.
_VOLATILE: Final = 1 << 16
_ANY_NUMBER: Final = 255
_DIGEST: Final = (1 << 64) - 1

# The operators that a statement may use without naming them: CASE x WHEN y, x IN (…), JOIN USING,
# BETWEEN, ORDER BY.
UNNAMED_OPERATORS: Final = ("=", "<>", "<", "<=", ">", ">=")

# What a relation's kind says by itself.
_KINDS: Final = {
    "unlogged": (Reason.UNLOGGED, "unlogged table"),
    "foreign": (Reason.FOREIGN_TABLE, "foreign table"),
    "sequence": (Reason.PRIMARY_FUNCTION, "sequence"),
}
_FOLLOWED: Final = {"view": "view", "policy": "row security of"}


@final
class Relation:
    """A relation that is more than a plain table. `kind`: view, policy (row security), unlogged,
    foreign or sequence."""

    def __init__(self, kind: str, definition: str) -> None:
        self.kind = kind
        self.definition = definition


@final
class Catalogue:
    """The objects by schema and name."""

    def __init__(self) -> None:
        self.functions: dict[str, dict[str, tuple[int, ...]]] = {}  # overloads of each name
        self.row_functions: dict[str, set[str]] = {}  # volatile ones that may be called as t.f
        self.operators: dict[str, dict[str, bool]] = {}  # whether any overload is volatile
        self.types: dict[str, dict[str, str]] = {}  # definitions
        self.casts: dict[tuple[str, str], str] = {}  # volatile ones to a type
        self.relations: dict[str, dict[str, Relation]] = {}
        self.search_paths: dict[str, str] = {}  # defaults by role, "" is everybody's
        self.unnamed: dict[str, str] = {}  # functions called without being named, and by what
        self.count = 0
        self.digest = 0  # equal for equal contents, whatever their order
        self._overloads: dict[tuple[int, ...], tuple[int, ...]] = {}  # each once

    # --- filling ------------------------------------------------------------------------------

    def _note(self, *what: object) -> None:
        self.count += 1
        self.digest = (self.digest + hash(what)) & _DIGEST

    def function(
        self, schema: str, name: str, least: int, most: int, *, volatile: bool, takes_row: bool
    ) -> None:
        """An overload that takes from `least` to `most` arguments (-1: any number)."""
        self._note("function", schema, name, least, most, volatile, takes_row)
        upper = _ANY_NUMBER if most < 0 else most
        overload = (_VOLATILE if volatile else 0) | upper << 8 | least
        names = self.functions.setdefault(schema, {})
        overloads = (*names.get(name, ()), overload)
        names[name] = self._overloads.setdefault(overloads, overloads)
        if volatile and takes_row:
            self.row_functions.setdefault(schema, set()).add(name)

    def operator(self, schema: str, name: str, *, volatile: bool) -> None:
        self._note("operator", schema, name, volatile)
        names = self.operators.setdefault(schema, {})
        names[name] = volatile or names.get(name, False)

    def type(self, schema: str, name: str, definition: str) -> None:
        """`definition` is "" if using the type runs nothing that may write."""
        self._note("type", schema, name, definition)
        self.types.setdefault(schema, {})[name] = definition

    def cast(self, schema: str, name: str, detail: str) -> None:
        """A cast to that type, which may be PostgreSQL's own, calls a volatile function."""
        self._note("cast", schema, name, detail)
        self.casts[schema, name] = detail

    def implicit(self, detail: str, function: str) -> None:
        """A volatile function may be called for values of users' types where no statement shows it."""
        self._note("implicit", detail, function)
        self.unnamed[function] = detail

    def relation(self, schema: str, name: str, kind: str, definition: str) -> None:
        self._note("relation", schema, name, kind, definition)
        self.relations.setdefault(schema, {})[name] = Relation(kind, definition)

    def search_path(self, role: str, text: str) -> None:
        """The default of a role, or of everybody (""); an empty text: it is not known."""
        self._note("search_path", role, text)
        self.search_paths[role] = text

    # --- reading ------------------------------------------------------------------------------

    def default_path(self, user: str) -> str | None:
        """The search_path of a session of `user` that has set none; None: it is not known."""
        return self.search_paths.get(user) or self.search_paths.get("") or None

    def schemas(self) -> set[str]:
        """Those with something in them that is found by a name alone."""
        return {*self.functions, *self.operators, *self.types, *self.relations}


@final
class Namespace(Lookup):
    """A catalogue along a search_path. `schemas` None: it is not known, any schema may be on it."""

    def __init__(
        self, catalogue: Catalogue, schemas: tuple[str, ...] | None, lists: FunctionLists
    ) -> None:
        super().__init__(lists)
        self.catalogue = catalogue
        # PostgreSQL looks in pg_catalog whether it is named or not.
        self._schemas = None if schemas is None else tuple(dict.fromkeys((*schemas, "pg_catalog")))
        self._qualified: Namespace | None = None  # for the texts of definitions
        self._known: dict[tuple[str, str, str], Verdict | None] = {}  # definitions, followed
        self._row_functions = {
            name
            for schema in self._on_path(catalogue.row_functions)
            for name in catalogue.row_functions.get(schema, ())
        }
        for function, detail in catalogue.unnamed.items():
            if not lists.reads(function.split(".")):
                self.implicit = detail
        for schema in self._on_path(catalogue.operators):
            names = catalogue.operators.get(schema, {})
            for name in UNNAMED_OPERATORS:
                if names.get(name, False):
                    self.implicit = f"operator {schema}.{name}"

    def users_function(self, names: list[str], arity: int, reason: Reason | None) -> Reason | None:
        name = names[-1]
        functions = self.catalogue.functions
        found = False
        for schema in self._where(names, functions):
            for overload in functions.get(schema, {}).get(name, ()):
                most = overload >> 8 & 255
                if arity < overload & 255 or (arity > most and most != _ANY_NUMBER):
                    continue
                if overload & _VOLATILE:
                    return Reason.VOLATILE_FUNCTION
                found = True
        if found:
            return None
        if reason is Reason.UNKNOWN_FUNCTION and arity == 1 and self._is_cast(names):
            return None
        return reason

    def operator(self, names: list[str]) -> Verdict | None:
        name = names[-1]
        found = False
        operators = self.catalogue.operators
        for schema in self._where(names, operators):
            volatile = operators.get(schema, {}).get(name)
            if volatile:
                return Verdict(Reason.VOLATILE_FUNCTION, f"operator {schema}.{name}")
            found = found or volatile is not None
        return None if found else super().operator(names)

    def type(self, names: list[str]) -> Verdict | None:
        name = names[-1]
        catalogue = self.catalogue
        found = False
        weakest: Verdict | None = None
        for schema in self._where(names, catalogue.types):
            definition = catalogue.types.get(schema, {}).get(name)
            if definition is None:
                continue
            found = True
            verdict = self._followed("type", schema, name, definition)
            if verdict is not None and verdict.reason is not None:
                return verdict
            weakest = weakest or verdict
        for schema, cast in catalogue.casts:
            if cast == name and (len(names) < 2 or names[-2] == schema):
                return Verdict(Reason.VOLATILE_FUNCTION, catalogue.casts[schema, cast])
        return weakest if found else super().type(names)

    def relation(self, schema: str, name: str) -> Verdict | None:
        relations = self.catalogue.relations
        weakest: Verdict | None = None
        for where in self._where([schema, name] if schema else [name], relations):
            relation = relations.get(where, {}).get(name)
            if relation is None:
                continue
            verdict = self._relation(where, name, relation)
            if verdict is not None and verdict.reason is not None:
                return verdict
            weakest = weakest or verdict
        return super().relation(schema, name) or weakest

    def attribute(self, name: str) -> Verdict | None:
        if name not in self._row_functions:
            return None
        return Verdict(Reason.VOLATILE_FUNCTION, f"function {name}, called on a row")

    # --- inside -------------------------------------------------------------------------------

    def _on_path(self, objects: Iterable[str]) -> Iterable[str]:
        return objects if self._schemas is None else self._schemas

    def _where(self, names: list[str], objects: Iterable[str]) -> Iterable[str]:
        """The schemas in which an object of that name may be."""
        return names[-2:-1] if len(names) > 1 else self._on_path(objects)

    def _is_cast(self, names: list[str]) -> bool:
        """Whether f(x) is a cast to a type of that name, as it is where there is no such function,
        and that a read may use it."""
        is_known = type_reason(names) is None or any(
            names[-1] in self.catalogue.types.get(schema, {})
            for schema in self._where(names, self.catalogue.types)
        )
        return is_known and self.type(names) is None

    def _relation(self, schema: str, name: str, relation: Relation) -> Verdict | None:
        known = _KINDS.get(relation.kind)
        if known is not None:
            reason, words = known
            is_local = relation.kind == "sequence"
            return Verdict(reason, f"{words} {schema}.{name}", is_local=is_local)
        return self._followed(_FOLLOWED[relation.kind], schema, name, relation.definition)

    def _followed(self, what: str, schema: str, name: str, definition: str) -> Verdict | None:
        """Why the definition is no read, or None."""
        if not definition:
            return None
        qualified = self._qualified
        if qualified is None:
            qualified = self
            if self._schemas != ("pg_catalog",):
                qualified = Namespace(self.catalogue, (), self.lists)
            self._qualified = qualified
        key = (what, schema, name)
        if key not in qualified._known:
            # What leads back to itself is not shown to be a read.
            qualified._known[key] = Verdict(Reason.TOO_DEEP, f"{what} {schema}.{name}")
            qualified._known[key] = _judge(f"{what} {schema}.{name}", definition, qualified)
        return qualified._known[key]


def _judge(what: str, definition: str, lookup: Lookup) -> Verdict | None:
    text = definition.encode()
    if len(text) > LONGEST_DEFINITION:
        return Verdict(Reason.TOO_LONG, f"{what}: {len(text)} bytes")
    findings = Findings(lookup)
    try:
        findings.look(parse(text))
    except (ParseError, RecursionError, ValueError) as error:
        return Verdict(Reason.UNPARSABLE, f"{what}: {error.args[0] if error.args else error}")
    if findings.reason is None:
        return None if findings.movable else OF_THE_TRANSACTION
    # Which settings it makes is not followed.
    pin = Pin.SET_CONFIG if findings.sets and findings.pin is None else findings.pin
    return Verdict(
        findings.reason,
        f"{what}: {findings.detail}",
        is_local=findings.writes_nothing,
        pin=pin,
    )
