"""Names looked up in a database's catalogue along a search_path. PURE.

PostgreSQL's own lists stand behind it. Where PostgreSQL picks one of several objects of a name by
rules that need all types ("Function Type Resolution", chapter 10), every one that it might pick
counts: those of all schemas of the path that take as many arguments. That is never less than what
will run. Definitions are walked like statements (reads.py), bodies word by word (bodies.py).
"""

from collections.abc import Iterable
from typing import Final, final

from pglast.parser import ParseError

from pgproxy.routing.bodies import Bodies
from pgproxy.routing.catalogue import VOLATILE, Catalogue, Relation, takes
from pgproxy.routing.functions import type_reason
from pgproxy.routing.lookup import OF_THE_TRANSACTION, FunctionLists, Lookup, Verdict
from pgproxy.routing.parsing import parse
from pgproxy.routing.pins import Pin
from pgproxy.routing.reads import Findings
from pgproxy.routing.reasons import Reason

# Bytes of a definition that is followed; one that is longer is not shown to be a read.
LONGEST_DEFINITION: Final = 65536

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
class Namespace(Lookup):
    """A catalogue along a search_path. `schemas` None: it is not known, any schema may be on it."""

    def __init__(
        self,
        catalogue: Catalogue,
        schemas: tuple[str, ...] | None,
        lists: FunctionLists,
        bodies: Bodies | None = None,
    ) -> None:
        super().__init__(lists)
        self.catalogue = catalogue
        # PostgreSQL looks in pg_catalog whether it is named or not.
        self._schemas = None if schemas is None else tuple(dict.fromkeys((*schemas, "pg_catalog")))
        self._qualified: Namespace | None = None  # for the texts of definitions
        self._known: dict[tuple[str, str, str], Verdict | None] = {}  # definitions, followed
        self._bodies = bodies or Bodies(
            catalogue, self._inner_path(), lists, self._relation_of, self._type_of
        )
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
                if names.get(name, False) or self._inside("operator", schema, name):
                    self.implicit = f"operator {schema}.{name}"
        for detail in catalogue.bodies.get("implicit", {}).get("", {}):
            inside = self._inside("implicit", "", detail)
            if inside:
                self.implicit = f"{detail}: {inside}"

    def users_function(
        self, names: list[str], arity: int, verdict: Verdict | None
    ) -> Verdict | None:
        name = names[-1]
        functions = self.catalogue.functions
        found = False
        inside = ""
        for schema in self._where(names, functions):
            for overload in functions.get(schema, {}).get(name, ()):
                if not takes(overload, arity):
                    continue
                if overload & VOLATILE:
                    return Verdict(Reason.VOLATILE_FUNCTION, f"function {'.'.join(names)}")
                if not found or not inside:
                    inside = self._inside("function", schema, name)
                found = True
        if inside:
            return _mislabelled(f"function {'.'.join(names)}", inside)
        if found:
            return None
        is_unknown = verdict is not None and verdict.reason is Reason.UNKNOWN_FUNCTION
        if is_unknown and arity == 1 and self._is_cast(names):
            return None
        return verdict

    def operator(self, names: list[str]) -> Verdict | None:
        name = names[-1]
        found = False
        operators = self.catalogue.operators
        for schema in self._where(names, operators):
            volatile = operators.get(schema, {}).get(name)
            if volatile:
                return Verdict(Reason.VOLATILE_FUNCTION, f"operator {schema}.{name}")
            inside = self._inside("operator", schema, name)
            if inside:
                return _mislabelled(f"operator {schema}.{name}", inside)
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
        casts = catalogue.bodies.get("cast", {})
        for schema in names[-2:-1] or casts:
            inside = self._inside("cast", schema, name)
            if inside:
                return _mislabelled(f"cast to {schema}.{name}", inside)
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
        verdict = self.users_function([name], 1, None)
        if verdict is None:
            return None
        detail = f"{verdict.detail}, called on a row"
        return Verdict(Reason.VOLATILE_FUNCTION, detail, when_planned=verdict.when_planned)

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
        qualified = self._for_definitions()
        key = (what, schema, name)
        if key not in qualified._known:
            # What leads back to itself is not shown to be a read.
            qualified._known[key] = Verdict(Reason.TOO_DEEP, f"{what} {schema}.{name}")
            qualified._known[key] = _judge(f"{what} {schema}.{name}", definition, qualified)
        return qualified._known[key]

    def _relation_of(self, schema: str, name: str) -> Verdict | None:
        return self._relation(schema, name, self.catalogue.relations[schema][name])

    def _type_of(self, schema: str, name: str) -> Verdict | None:
        return self._followed("type", schema, name, self.catalogue.types[schema][name])

    def _inside(self, kind: str, schema: str, name: str) -> str:
        """What keeps from replicas what such an object runs; "" if nothing does."""
        if not self.catalogue.body(kind, schema, name):
            return ""
        return self._bodies.inside(kind, schema, name)

    def _inner_path(self) -> set[str] | None:
        """The schemas of which a body may name something without their names; None: any. It has the
        path of the session, unless a function that is called before has one of its own."""
        others = path_names(self.catalogue.body("path", "", ""))
        if self._schemas is None or "$user" in others:
            return None
        return {*self._schemas, *others}

    def _for_definitions(self) -> "Namespace":
        """That of texts with qualified names, which keeps what was found out."""
        if self._schemas == ("pg_catalog",):
            return self
        if self._qualified is None:
            self._qualified = Namespace(self.catalogue, (), self.lists, self._bodies)
        return self._qualified


def _mislabelled(what: str, inside: str) -> Verdict:
    """It is declared STABLE or IMMUTABLE, and is not."""
    return Verdict(Reason.VOLATILE_FUNCTION, f"{what}: {inside}", when_planned=True)


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
        when_planned=findings.planned != "",
    )


def path_names(text: str) -> list[str]:
    """The names in a search_path as PostgreSQL reads it (SplitIdentifierString): separated by
    commas, in lower case unless quoted."""
    names: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t\n\r\f\v,":
            at += 1
            continue
        name = ""
        if text[at] == '"':
            at += 1
            while at < len(text):
                if text[at] == '"':
                    if text[at + 1 : at + 2] != '"':
                        break
                    at += 1
                name += text[at]
                at += 1
            at += 1
        else:
            end = at
            while end < len(text) and text[end] not in " \t\n\r\f\v,":
                end += 1
            name = "".join(
                [letter.lower() if letter.isascii() else letter for letter in text[at:end]]
            )
            at = end
        names.append(name)
    return names
