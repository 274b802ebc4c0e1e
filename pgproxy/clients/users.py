"""Who may log in: the users file, read again when it changes."""

from pathlib import Path

import structlog

from pgproxy.errors import ConfigError
from pgproxy.protocol.authentication import Credentials, credentials_of
from pgproxy.protocol.userlist import PasswordKind, UserEntry, parse_userlist, usual_kind

_log = structlog.stdlib.get_logger()


class Users:
    """Entries by name, and what clients have shown at log-in (SCRAM keys)."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._fault = ""  # of the file as it is now
        self.entries: dict[str, UserEntry] = {}
        self.unknown_kind = PasswordKind.SCRAM
        self._shown: dict[str, Credentials] = {}
        if path is not None:
            self._read(path)

    def credentials(self, user: str) -> Credentials:
        """What the proxy can log in to a server with, as this user."""
        shown = self._shown.get(user)
        return credentials_of(self.entries.get(user)) if shown is None else shown

    def show(self, user: str, credentials: Credentials) -> None:
        """A client has logged in."""
        if credentials.keys is not None or credentials.password:
            self._shown[user] = credentials

    def refresh(self) -> str:
        """Reads the file again if it has changed; a faulty one is logged and changes nothing.

        Returns what is wrong with it, for as long as it is.
        """
        if self._path is None:
            return ""
        try:
            if _stamp(self._path) == self._stamp:
                return self._fault
            self._read(self._path)
        except (OSError, ConfigError) as error:
            _log.warning("users_file_unusable", file=str(self._path), error=str(error))
            self._fault = str(error)
            return self._fault
        self._fault = ""
        self._shown.clear()
        _log.info("users_file_read", file=str(self._path), users=len(self.entries))
        return ""

    def _read(self, path: Path) -> None:
        self._stamp = _stamp(path)
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError([f"{path}: is not UTF-8 text"]) from error
        entries = parse_userlist(text, str(path))
        self.unknown_kind = usual_kind(entries)
        self.entries = entries


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
