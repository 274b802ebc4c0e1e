"""What functions do inside, whatever their labels say: by the words of their bodies. PURE.

Nothing is parsed, for there are many languages. Words in comments and in string constants count as
well: so a body that runs a text (EXECUTE) has its words in it, unless it puts them together from
pieces or from data.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, final

from pgproxy.routing.catalogue import VOLATILE, Catalogue, takes
from pgproxy.routing.functions import (
    SEQUENCE_COLUMNS,
    function_reason,
    is_temporary,
    is_view_of_the_primary,
)
from pgproxy.routing.lookup import NOT_SHOWN, FunctionLists, Verdict
from pgproxy.routing.reasons import Reason

# Characters of one body, and of all that are followed from one.
LONGEST_BODY: Final = 65_536
LONGEST_WAY: Final = 131_072

# An object with a body: its kind, schema and name.
Key = tuple[str, str, str]

# What stands before a word: `schema.` or `(x).`; what follows a name that is called: a parenthesis, or
# what one may come behind.
_WORD: Final = re.compile(
    r"""(?:(\w+)"?\s*\.\s*"?|(\.)\s*"?)?(\w+)(?:(?="?\s*(\(|/\*|--|'|\$))|)"""
)
_NAME: Final = re.compile(r"\w+")
_ESCAPES: Final = re.compile(r"""\bu&["']""", re.IGNORECASE)


@final
class Word:
    """One occurrence. `qualifier`: the word before the dot in front of it, "" if there is none;
    `is_called`: it can be a function's name; `is_member`: a column's, or that of a function that is
    called as a column."""

    def __init__(self, qualifier: str, name: str, *, is_called: bool, is_member: bool) -> None:
        self.qualifier = qualifier
        self.name = name
        self.is_called = is_called
        self.is_member = is_member


def words(text: str, others: Sequence[str] = ()) -> Iterator[Word]:
    """All that may be names in it: as they stand there, as quoted ones are, and in lower case. Of
    `others`, names that are no single words, those that are anywhere in the text."""
    seen: set[tuple[str, str, bool, bool]] = set()
    for match in _WORD.finditer(text):
        qualifier, dot, name, follows = match.groups(default="")
        found = (qualifier, name, follows != "", dot != "" or qualifier != "")
        if found in seen:
            continue
        seen.add(found)
        yield Word(qualifier, name, is_called=found[2], is_member=found[3])
        for fold in (_lower, str.lower):
            folded = fold(name)
            if folded != name or fold(qualifier) != qualifier:
                yield Word(fold(qualifier), folded, is_called=found[2], is_member=found[3])
    folded_text = _lower(text) if others else ""
    for name in others:
        if name in text or name in folded_text or name.replace('"', '""') in text:
            yield Word("", name, is_called=True, is_member=True)


@final
class Bodies:
    """Those of one catalogue. `path`: the schemas in which names are that stand alone, None: in any;
    `relation` and `type_` say why one of that schema and name is no read."""

    def __init__(
        self,
        catalogue: Catalogue,
        path: set[str] | None,
        lists: FunctionLists,
        relation: Callable[[str, str], Verdict | None],
        type_: Callable[[str, str], Verdict | None],
    ) -> None:
        self._catalogue = catalogue
        self._path = path
        self._lists = lists
        self._relation = relation
        self._type = type_
        self._known: dict[Key, str] = {}
        self._others: list[str] | None = None  # names that are no single words
        self._other_schemas = [
            schema for schema in catalogue.schemas() if _NAME.fullmatch(schema) is None
        ]

    def inside(self, kind: str, schema: str, name: str) -> str:
        """What the object runs, or what that runs, that keeps it from a replica; "" if nothing does."""
        first = (kind, schema, name)
        known = self._known.get(first)
        if known is not None:
            return known
        # What leads back to itself by a view or a type is not shown to be a read.
        self._known[first] = f"{kind} {schema}.{name}"
        way = {first: None}
        todo = [first]
        length = 0
        while todo:
            text = self._catalogue.body(*todo.pop())
            length += len(text)
            if len(text) > LONGEST_BODY or length > LONGEST_WAY:
                found = f"{length} characters"
            else:
                found = self._follow(text, way, todo)
            if found:
                self._known[first] = found
                return found
        for key in way:  # all that these lead to has been looked at
            self._known[key] = ""
        return ""

    def _follow(self, text: str, way: dict[Key, None], todo: list[Key]) -> str:
        """What keeps this text from a replica; else the bodies that it uses are to be done."""
        if _ESCAPES.search(text) is not None:
            return "names in Unicode escapes"
        used: list[Key] = []
        for word in words(text, self._other_names()):
            found = self._called(word, used) or self._named(word, used)
            if found:
                return found
        for schema, names in self._catalogue.operators.items():
            for name, is_volatile in names.items():
                if name not in text or not (self._is_on_path(schema) or schema in text):
                    continue
                if is_volatile:
                    return f"operator {schema}.{name}"
                used.append(("operator", schema, name))
        for key in used:
            if key in way:
                continue
            known = self._known.get(key)
            if known:
                return known
            if known is None and self._catalogue.body(*key):
                way[key] = None
                todo.append(key)
        return ""

    def _called(self, word: Word, used: list[Key]) -> str:
        """The function that the word may call, if no replica can run it."""
        if not word.is_called and not word.is_member:
            return ""
        if is_temporary(word.qualifier):
            return f"schema {word.qualifier}"
        name = word.name
        reason = function_reason([name])
        if self._lists.writes([name]) or (
            reason is not None
            and reason is not Reason.UNKNOWN_FUNCTION
            and not (reason in NOT_SHOWN and self._lists.reads([name]))
        ):
            return f"function {name}"
        functions = self._catalogue.functions
        # What stands before the dot may be a schema, or a value of which this is a member.
        qualifier = word.qualifier
        if qualifier not in functions and qualifier not in ("pg_catalog", "information_schema"):
            qualifier = ""
        for schema in self._schemas(word, qualifier, functions):
            overloads = functions.get(schema, {}).get(name)
            if overloads is None:
                continue
            if self._lists.writes([schema, name]):
                return f"function {schema}.{name}"
            if self._lists.reads([schema, name]):
                continue
            for overload in overloads:
                if overload & VOLATILE and (word.is_called or takes(overload, 1)):
                    return f"function {schema}.{name}"
            used.append(("function", schema, name))
        return ""

    def _named(self, word: Word, used: list[Key]) -> str:
        """The relation or type that the word may name, if no replica can use it."""
        name = word.name
        if name in SEQUENCE_COLUMNS and not word.is_called:
            return f"column {name}"
        if is_view_of_the_primary(name, ""):
            return f"view {name}"
        catalogue = self._catalogue
        for schema in self._schemas(word, word.qualifier, catalogue.relations):
            if name in catalogue.relations.get(schema, {}):
                verdict = self._relation(schema, name)
                if verdict is not None and verdict.reason is not None:
                    return verdict.detail
        for schema in self._schemas(word, word.qualifier, catalogue.types):
            if name in catalogue.types.get(schema, {}):
                verdict = self._type(schema, name)
                if verdict is not None and verdict.reason is not None:
                    return verdict.detail
                if (schema, name) in catalogue.casts:
                    return catalogue.casts[schema, name]
                used.append(("cast", schema, name))
        return ""

    def _schemas(self, word: Word, qualifier: str, objects: Iterable[str]) -> Iterable[str]:
        """Those of which the word may be a name, if it is one of schema `qualifier`."""
        if _NAME.fullmatch(word.name) is None:
            return objects
        schemas = (qualifier,) if qualifier else self._path
        if schemas is None:
            return objects
        if not word.is_member:
            return schemas
        # Of a schema's name that is no single word the last one stands before the dot.
        return (*schemas, *[one for one in self._other_schemas if one.endswith(word.qualifier)])

    def _is_on_path(self, schema: str) -> bool:
        return self._path is None or schema in self._path

    def _other_names(self) -> list[str]:
        if self._others is None:
            catalogue = self._catalogue
            self._others = [
                name
                for objects in (catalogue.functions, catalogue.relations, catalogue.types)
                for names in objects.values()
                for name in names
                if _NAME.fullmatch(name) is None
            ]
        return self._others


def _lower(name: str) -> str:
    """As PostgreSQL does it to identifiers in UTF-8."""
    return name.encode().lower().decode()
