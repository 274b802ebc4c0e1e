"""Who may log in: the users file and mounted Secrets, read again when they change, and variables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from pgproxy.config import LOGIN_FILES, Auth, LoginError, configured_logins
from pgproxy.errors import ConfigError
from pgproxy.protocol.authentication import Credentials, credentials_of
from pgproxy.protocol.userlist import (
    PasswordKind,
    UserEntry,
    fault_of,
    parse_userlist,
    usual_kind,
)

_log = structlog.stdlib.get_logger()

# How often files are read anew that change meanwhile, before the next round is waited for.
_REPEATS: Final = 3

_Stamps = tuple[tuple[int, int, int, int], ...]


class Users:
    """Entries by name, and what clients have shown at log-in (SCRAM keys)."""

    def __init__(self, auth: Auth, environ: Mapping[str, str]) -> None:
        """Raises OSError, or ConfigError with a line for each fault."""
        self._auth = auth
        self._environ = environ
        self._file = users_file(auth)
        self._watched = [] if self._file is None else [self._file]
        self._watched += [folder / name for folder in auth.users_dirs for name in LOGIN_FILES]
        self._stamps: _Stamps = ()
        self._fault = ""  # of the files as they are now
        self.entries: dict[str, UserEntry] = {}
        self.unknown_kind = PasswordKind.SCRAM
        self._shown: dict[str, Credentials] = {}
        self._read()

    def credentials(self, user: str) -> Credentials:
        """What the proxy can log in to a server with, as this user."""
        shown = self._shown.get(user)
        return credentials_of(self.entries.get(user)) if shown is None else shown

    def show(self, entry: UserEntry | None, credentials: Credentials) -> None:
        """A client has logged in by this entry, which may be another one meanwhile."""
        if entry is None or not _are_one(entry, self.entries.get(entry.name)):
            return
        if credentials.keys is not None or credentials.password:
            self._shown[entry.name] = credentials

    def refresh(self) -> str:
        """Reads the files again if one has changed; a faulty one is logged and changes nothing.

        Returns what is wrong with it, for as long as it is.
        """
        try:
            if self._stamps_now() == self._stamps:
                return self._fault
            before = self.entries
            self._read()
        except (OSError, ConfigError) as error:
            if isinstance(error, OSError):
                # What was away may come back as it was.
                self._stamps = ()
            if str(error) != self._fault:
                _log.warning("users_unusable", error=str(error))
            self._fault = str(error)
            return self._fault
        self._fault = ""
        self._forget_changed(before)
        _log.info("users_read", users=len(self.entries))
        return ""

    def _forget_changed(self, before: Mapping[str, UserEntry]) -> None:
        """What the clients of others have shown still holds, and may be all that opens a server."""
        for user in list(self._shown):
            if not _are_one(before.get(user), self.entries.get(user)):
                del self._shown[user]

    def _read(self) -> None:
        entries = self._read_once()
        for _ in range(_REPEATS):
            # A Secret is replaced as a whole: its name and its password must be of one version.
            if self._stamps_now() == self._stamps:
                break
            entries = self._read_once()
        self.unknown_kind = usual_kind(entries)
        self.entries = entries

    def _read_once(self) -> dict[str, UserEntry]:
        self._stamps = self._stamps_now()
        found = read_users(self._auth, self._environ, self._file)
        return {entry.name: entry for entry, _ in found}

    def _stamps_now(self) -> _Stamps:
        stats = [path.stat() for path in self._watched]
        # The time of change tells of rights that were given, too.
        return tuple((one.st_mtime_ns, one.st_ctime_ns, one.st_size, one.st_ino) for one in stats)


def _are_one(old: UserEntry | None, new: UserEntry | None) -> bool:
    return old is not None and new is not None and old.password == new.password


def users_file(auth: Auth) -> Path | None:
    """The one to read: with trust there need not be any."""
    path = auth.users_file
    return path if path is not None and (auth.needs_users or path.exists()) else None


def read_users(
    auth: Auth, environ: Mapping[str, str], file: Path | None
) -> list[tuple[UserEntry, str]]:
    """Everybody who may log in, and where from: a file, a folder, variables.

    Raises OSError, or ConfigError with a line for each fault.
    """
    found: dict[str, tuple[UserEntry, str]] = {}
    faults = []
    if file is not None:
        try:
            text = file.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError([f"{file}: is not UTF-8 text"]) from error
        entries = parse_userlist(text, str(file))
        found = {name: (entry, f"file {file}") for name, entry in entries.items()}
    for key, login in configured_logins(auth, environ):
        if isinstance(login, LoginError):
            faults.append(f"{key}: {login}")
            continue
        entry = UserEntry(login.user, login.password)
        if fault := fault_of(entry):
            faults.append(f"{key}: {fault} ({login.origin})")
        elif entry.name in found:
            other = found[entry.name][1]
            faults.append(f'{key}: user "{entry.name}" is in {other} too; accepted: each once')
        else:
            found[entry.name] = (entry, login.origin)
    if faults:
        raise ConfigError(faults)
    return list(found.values())
