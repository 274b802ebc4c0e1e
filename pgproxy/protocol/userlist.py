"""The users file: PgBouncer's userlist.txt, text in, entries out. PURE.

One user per line, `"name" "password"`, a quote inside written twice. The password is plain text, an
md5 hash or a SCRAM-SHA-256 secret as PostgreSQL stores them (`SELECT rolname, rolpassword FROM
pg_authid`). Empty lines and lines that begin with `;` say nothing, and so does whatever follows the
second string. Of a name given twice the last line counts.
"""

import enum
from typing import Final, final

from pgproxy.errors import ConfigError
from pgproxy.protocol import md5
from pgproxy.protocol.scram import ScramSecret, parse_secret

SCRAM_PREFIX: Final = "SCRAM-SHA-256$"


class PasswordKind(enum.Enum):
    """What is known of a user's password."""

    PLAIN = "plain"
    MD5 = "md5"
    SCRAM = "scram-sha-256"


@final
class UserEntry:
    """One user. `password` is what the file says; `secret` is it taken apart, for kind SCRAM only.

    An empty password is none at all: nobody can log in with it.
    """

    def __init__(self, name: str, password: str) -> None:
        self.name: str = name
        self.password: str = password
        self.secret: ScramSecret | None = parse_secret(password)
        self.kind: PasswordKind = PasswordKind.PLAIN
        if self.secret is not None:
            self.kind = PasswordKind.SCRAM
        elif md5.is_hash(password):
            self.kind = PasswordKind.MD5

    def __repr__(self) -> str:
        return f"UserEntry({self.name!r}, {self.kind.value})"


def parse_userlist(text: str, source: str = "users_file") -> dict[str, UserEntry]:
    """The entries by user name. Raises ConfigError with a line for each line that is not one.

    `source` names the file in the faults, which never quote a password.
    """
    entries: dict[str, UserEntry] = {}
    faults: list[str] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith(";"):
            continue
        fault = ""
        name, after = _quoted(line, 0)
        password, end = _quoted(line, after) if after > 0 else ("", -1)
        if end < 0:
            fault = 'expected "user" "password", each in double quotes'
        else:
            entry = UserEntry(name, password)
            fault = fault_of(entry)
            if not fault:
                entries[name] = entry
        if fault:
            faults.append(f"{source}: line {number}: {fault}")
    if faults:
        raise ConfigError(faults)
    return entries


def fault_of(entry: UserEntry) -> str:
    """Why it cannot be a user; "" if it can."""
    if not entry.name:
        return "the user's name is empty"
    if "\x00" in entry.name or "\x00" in entry.password:
        return "a NUL character cannot be part of a name or a password"
    if entry.password.startswith(SCRAM_PREFIX) and entry.secret is None:
        return (
            "the password begins like a SCRAM secret and is none: expected "
            "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>"
        )
    return ""


def _quoted(line: str, offset: int) -> tuple[str, int]:
    """The quoted string that comes next from `offset` on, and the offset after it; -1: none."""
    while offset < len(line) and line[offset] in " \t":
        offset += 1
    if offset >= len(line) or line[offset] != '"':
        return "", -1
    parts: list[str] = []
    offset += 1
    while True:
        end = line.find('"', offset)
        if end < 0:
            return "", -1
        parts.append(line[offset:end])
        if line[end + 1 : end + 2] != '"':
            return '"'.join(parts), end + 1
        offset = end + 2


def usual_kind(entries: dict[str, UserEntry]) -> PasswordKind:
    """The kind most users have: what an unknown user is made to look like."""
    counts = dict.fromkeys(PasswordKind, 0)
    for entry in entries.values():
        counts[entry.kind] += 1
    usual = PasswordKind.SCRAM
    for kind, count in counts.items():
        if count > counts[usual]:
            usual = kind
    return usual
