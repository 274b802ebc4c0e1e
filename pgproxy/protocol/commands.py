"""The admin console's language: texts to commands. PURE.

It is PgBouncer's: a word and at most one argument, in any case; names are taken as they are written,
in double quotes or without. Beside that there is what drivers send of themselves (BEGIN, SET of a
session's own settings, …), which the console accepts and needs not.
"""

import re
from typing import Final, final

from pgproxy.errors import PgError

SYNTAX_ERROR: Final = "42601"
HINT: Final = "use SHOW HELP"

# Commands by the argument they take.
WITHOUT: Final = frozenset({"reload", "suspend"})
WITH_NAME: Final = frozenset({"disable", "enable", "kill_client"})
MAY_HAVE_NAME: Final = frozenset({"pause", "resume", "reconnect", "kill", "wait_close", "shutdown"})

# What a session would change of itself, where nothing depends on it here.
_NO_MATTER: Final = frozenset({"reset", "discard", "deallocate", "close", "unlisten"})
SESSION_SETTINGS: Final = {
    "application_name": "",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "client_min_messages": "notice",
    "datestyle": "ISO, MDY",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "extra_float_digits": "1",
    "intervalstyle": "postgres",
    "search_path": "",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "timezone": "UTC",
    "transaction_isolation": "read committed",
    "transaction_read_only": "off",
}
_LEVELS: Final = {
    "transaction isolation level": "transaction_isolation",
    "time zone": "timezone",
    "names": "client_encoding",
}

_BEGINNINGS: Final = frozenset({"begin", "start"})
_ENDS: Final = {"commit": "COMMIT", "end": "COMMIT", "rollback": "ROLLBACK", "abort": "ROLLBACK"}

_PIECES: Final = re.compile(r"""(?:[^;'"]|'(?:[^']|'')*'|"(?:[^"]|"")*"|['"])+""")
_COMMENTS: Final = re.compile(r"--[^\n]*|/\*.*?(?:\*/|\Z)", re.S)
_SHAPE: Final = re.compile(r"(\w+)(?:\s+(.*))?", re.S)
_NAME: Final = re.compile(r'"((?:[^"]|"")+)"|([^\s"]+)')
_SETTING: Final = re.compile(
    r"(?:session\s+(?!characteristics\b)|local\s+)?"
    r'(time\s+zone|names|session\s+characteristics|"?[\w.]+"?)\b(.*)',
    re.I | re.S,
)


@final
class Command:
    """`word` is in lower case: `show`, one of the sets above, `begin`, `end`, `set`, or `ignored`.

    argument    the name; of `show` what is asked for, of `set` the setting, both in lower case
    tag         what CommandComplete says
    """

    def __init__(self, word: str, argument: str, tag: str) -> None:
        self.word: Final = word
        self.argument: Final = argument
        self.tag: Final = tag

    def __repr__(self) -> str:
        return f"<Command {self.word} {self.argument!r}>"


def split(text: str) -> list[str]:
    """The statements of a Query, without those that are empty."""
    pieces = [piece.strip() for piece in _PIECES.findall(_COMMENTS.sub(" ", text))]
    return [piece for piece in pieces if piece]


def parse(statement: str) -> Command:
    """One statement without its semicolon. Raises `PgError` (42601)."""
    shape = _SHAPE.fullmatch(statement.strip())
    if shape is None:
        raise unknown(statement)
    word = shape[1].lower()
    rest = (shape[2] or "").strip()
    if word in _BEGINNINGS:
        return Command("begin", "", "START TRANSACTION" if word == "start" else "BEGIN")
    if word in _ENDS:
        return Command("end", "", _ENDS[word])
    if word in _NO_MATTER:
        tag = f"DISCARD {rest.upper()}" if word == "discard" else word.upper()
        return Command("ignored", "", tag)
    if word == "set":
        return _set(statement, rest)
    if word == "show":
        return _show(statement, rest)
    if word not in WITHOUT | WITH_NAME | MAY_HAVE_NAME:
        raise unknown(statement)
    name = _name(rest) if rest else ""
    if name is None or (word in WITHOUT and name):
        raise unknown(statement)
    if word in WITH_NAME and not name:
        what = "the id of a client" if word == "kill_client" else "the name of a database"
        raise PgError(SYNTAX_ERROR, f"{word.upper()} needs {what}", hint=HINT)
    return Command(word, name, word.upper())


def unknown(statement: str) -> PgError:
    """What is no command."""
    shown = " ".join(statement.split())[:60]
    return PgError(SYNTAX_ERROR, f'invalid command "{shown}"', hint=HINT)


def _show(statement: str, rest: str) -> Command:
    what = " ".join(rest.lower().split())
    name = _name(_LEVELS.get(what, what))
    if not name:
        raise unknown(statement)
    return Command("show", name, "SHOW")


def _set(statement: str, rest: str) -> Command:
    setting = _SETTING.fullmatch(rest)
    if setting is None:
        raise unknown(statement)
    name = " ".join(setting[1].lower().replace('"', "").split())
    if name in ("transaction", "session characteristics"):
        name = "transaction_isolation"
    return Command("set", _LEVELS.get(name, name), "SET")


def _name(text: str) -> str | None:
    """A name as written; None for anything else."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    if found[1]:
        return found[1].replace('""', '"')
    return found[2]
