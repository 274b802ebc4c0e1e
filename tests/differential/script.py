"""The language of scripts: steps of up to two clients, each of which sends messages in one write.

    Script(
        say(Query("BEGIN"), Query("SET LOCAL work_mem = '3MB'")),
        say(*run("SHOW work_mem"), SYNC),
        connect(TimeZone="Asia/Tokyo"),
        say(Query("SHOW TimeZone")),
    )

A step's `repr` is the text that makes it, so that a script which Hypothesis found can be pasted
among those written by hand. Texts may hold `@me` (the client's letter, a or b), and `@lock1` to
`@lock9`: keys of advisory locks that nobody else has, and others after each `connect`.

Rules, for the player must know when an answer is complete: a batch of the extended protocol ends
with Sync before the next Query; a step ends with Query, Sync, copy data or Flush.
"""

import itertools
from dataclasses import dataclass, field, fields
from typing import Final

from tests.support import wire


class _Short:
    """A `repr` that leaves out what has its default."""

    def __repr__(self) -> str:
        words: list[str] = []
        for part in fields(self):  # type: ignore[arg-type]
            value = getattr(self, part.name)
            if value != part.default:
                named = "" if not words and part is fields(self)[0] else f"{part.name}="  # type: ignore[arg-type]
                words.append(f"{named}{value!r}")
        return f"{type(self).__name__}({', '.join(words)})"


@dataclass(frozen=True, repr=False)
class Query(_Short):
    sql: str


@dataclass(frozen=True, repr=False)
class Parse(_Short):
    sql: str
    name: str = ""
    types: tuple[int, ...] = ()


@dataclass(frozen=True, repr=False)
class Bind(_Short):
    values: tuple[str | None, ...] = ()
    statement: str = ""
    portal: str = ""
    results: tuple[int, ...] = ()


@dataclass(frozen=True, repr=False)
class Describe(_Short):
    what: str  # S or P
    name: str = ""


@dataclass(frozen=True, repr=False)
class Execute(_Short):
    portal: str = ""
    limit: int = 0


@dataclass(frozen=True, repr=False)
class Close(_Short):
    what: str  # S or P
    name: str = ""


@dataclass(frozen=True, repr=False)
class CopyData(_Short):
    text: str


@dataclass(frozen=True, repr=False)
class CopyDone(_Short):
    pass


@dataclass(frozen=True, repr=False)
class CopyFail(_Short):
    reason: str


@dataclass(frozen=True, repr=False)
class Flush(_Short):
    pass


@dataclass(frozen=True, repr=False)
class Sync(_Short):
    pass


Message = (
    Query
    | Parse
    | Bind
    | Describe
    | Execute
    | Close
    | CopyData
    | CopyDone
    | CopyFail
    | Flush
    | Sync
)

# What may stand before a Query.
_ENDS: Final = (Query, Sync, CopyData, CopyDone, CopyFail)

SYNC: Final = Sync()
FLUSH: Final = Flush()


@dataclass(frozen=True)
class Login:
    """As whom and with which start-up parameters."""

    user: str = "diff_super"
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Say:
    """Messages in one write, and all that is answered."""

    messages: tuple[Message, ...]
    client: int = 0

    def __post_init__(self) -> None:
        for before, message in itertools.pairwise(self.messages):
            if isinstance(message, Query) and not isinstance(before, _ENDS):
                raise ValueError(f"the player would wait for ever: {before!r} before {message!r}")  # noqa: TRY004 - a value, though its type decides

    def __repr__(self) -> str:
        other = f", client={self.client}" if self.client else ""
        return f"say({', '.join(map(repr, self.messages))}{other})"


@dataclass(frozen=True)
class Connect:
    """A new connection in place of the client's present one, if it has one.

    `how` that one ends: with "Terminate", or "without a word".
    """

    login: Login
    client: int = 0
    how: str = "Terminate"

    def __repr__(self) -> str:
        words = [repr(self.login.user)]
        words += [f"client={self.client}"] if self.client else []
        words += [f"how={self.how!r}"] if self.how != "Terminate" else []
        words += [f"**{dict(self.login.parameters)!r}"] if self.login.parameters else []
        return f"connect({', '.join(words)})"


@dataclass(frozen=True)
class Hear:
    """Wait until `count` notifications have reached the client's connection since its start."""

    count: int
    client: int = 0

    def __repr__(self) -> str:
        return f"hear({self.count}{f', client={self.client}' if self.client else ''})"


Step = Say | Connect | Hear


@dataclass(frozen=True)
class Script:
    """Steps. A client that has not connected yet does so before its first, as `Login()`."""

    steps: tuple[Step, ...] = field(default=())

    def __init__(self, *steps: Step) -> None:
        object.__setattr__(self, "steps", steps)

    def __repr__(self) -> str:
        return "\n".join(["Script(", *(f"    {step!r}," for step in self.steps), ")"])


def say(*messages: Message, client: int = 0) -> Say:
    return Say(messages, client)


def ask(*texts: str, client: int = 0) -> list[Step]:
    """A step with one Query for each text."""
    return [Say((Query(text),), client) for text in texts]


def connect(
    user: str = "diff_super", client: int = 0, how: str = "Terminate", **parameters: str
) -> Connect:
    return Connect(Login(user, tuple(parameters.items())), client, how)


def hear(count: int, client: int = 0) -> Hear:
    return Hear(count, client)


def run(sql: str, *values: str | None, limit: int = 0) -> tuple[Message, ...]:
    """A statement in the extended protocol, unnamed, without Sync."""
    return Parse(sql), Bind(values), Describe("P"), Execute(limit=limit)


def use(statement: str, *values: str | None, portal: str = "") -> tuple[Message, ...]:
    """A statement that was prepared, in the extended protocol, without Sync."""
    return Bind(values, statement, portal), Describe("P", portal), Execute(portal)


def encode(message: Message, words: dict[str, str]) -> bytes:
    """The bytes of a message, with the words of its texts replaced."""

    def worded(text: str) -> str:
        if "@" in text:
            for word, meaning in words.items():
                text = text.replace(word, meaning)
        return text

    match message:
        case Query(sql):
            return wire.query(worded(sql))
        case Parse(sql, name, types):
            return wire.parse(worded(sql), name, types)
        case Bind(values, statement, portal, results):
            told = (None if value is None else worded(value).encode() for value in values)
            return wire.bind(*told, portal=portal, statement=statement, result_formats=results)
        case Describe(what, name):
            return wire.describe(what, name)
        case Execute(portal, limit):
            return wire.execute(portal, limit)
        case Close(what, name):
            return wire.close(what, name)
        case CopyData(text):
            return wire.copy_data(worded(text).encode())
        case CopyDone():
            return wire.COPY_DONE
        case CopyFail(reason):
            return wire.copy_fail(reason)
        case Flush():
            return wire.FLUSH
        case Sync():
            return wire.SYNC
