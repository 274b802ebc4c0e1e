"""What one database holds beyond PostgreSQL's own, as far as it decides where a read may run. PURE.

A `Catalogue` is filled once, from the primary (servers/catalogues.py), and never changed
afterwards; a newer one replaces it. namespace.py says what it means.

Whatever stands for more than a flag has a *definition*: a SELECT that runs what using the object
runs, with all names qualified: a view its query, a table with row security its policies, a domain
its checks. A function that is not volatile by its label has its *body*. Both are followed when the
first statement uses the object, so loading parses nothing.
"""

from typing import Final, final

# An overload in one number: volatile, least and most arguments.
VOLATILE: Final = 1 << 16
ANY_NUMBER: Final = 255
_DIGEST: Final = (1 << 64) - 1


def takes(overload: int, arity: int) -> bool:
    """Whether a call may give it so many arguments."""
    most = overload >> 8 & 255
    return overload & 255 <= arity and (arity <= most or most == ANY_NUMBER)


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
        self.row_functions: dict[str, set[str]] = {}  # those that may be called as t.f
        self.operators: dict[str, dict[str, bool]] = {}  # whether any overload is volatile
        self.types: dict[str, dict[str, str]] = {}  # definitions
        self.casts: dict[tuple[str, str], str] = {}  # volatile ones to a type
        self.relations: dict[str, dict[str, Relation]] = {}
        self.search_paths: dict[str, str] = {}  # defaults by role, "" is everybody's
        self.unnamed: dict[str, str] = {}  # functions called without being named, and by what
        # What runs inside by kind, schema and name.
        self.bodies: dict[str, dict[str, dict[str, str]]] = {}
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
        upper = ANY_NUMBER if most < 0 else most
        overload = (VOLATILE if volatile else 0) | upper << 8 | least
        names = self.functions.setdefault(schema, {})
        overloads = (*names.get(name, ()), overload)
        names[name] = self._overloads.setdefault(overloads, overloads)
        if takes_row:
            self.row_functions.setdefault(schema, set()).add(name)

    def runs(self, kind: str, schema: str, name: str, text: str) -> None:
        """A text whose words say what runs with such an object, though it is not called volatile.
        `kind`: function, operator, cast (to a type of that name), implicit (with a description for
        a name), or path: of what a function has by its own search_path."""
        self._note("runs", kind, schema, name, text)
        names = self.bodies.setdefault(kind, {}).setdefault(schema, {})
        names[name] = f"{names[name]} {text}" if name in names else text

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

    def body(self, kind: str, schema: str, name: str) -> str:
        return self.bodies.get(kind, {}).get(schema, {}).get(name, "")

    def schemas(self) -> set[str]:
        """Those with something in them that is found by a name alone."""
        return {*self.functions, *self.operators, *self.types, *self.relations}
