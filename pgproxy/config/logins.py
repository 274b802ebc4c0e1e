"""Names with their passwords that stand outside of the configuration: in variables, or in the files
of a mounted Secret.

"APP" is the variables APP_USERNAME and APP_PASSWORD. A folder has the files `username` and
`password`, as Kubernetes mounts a Secret of the type kubernetes.io/basic-auth.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pgproxy.config.clients import Auth

_USERNAME: Final = "_USERNAME"
_PASSWORD: Final = "_PASSWORD"  # noqa: S105 - how the name of a variable ends
LOGIN_FILES: Final = ("username", "password")
# A Secret made with `echo` has one, however it comes to the proxy.
_LINE_ENDS: Final = "\r\n"


class LoginError(Exception):
    """What is wrong with a name or its password, never the password itself."""


@dataclass(frozen=True)
class Login:
    """A user's name and password, and where both are from."""

    user: str
    password: str = field(repr=False)
    origin: str


def pair_of(prefix: str) -> tuple[str, str]:
    """The variables of that prefix: of the name, and of the password."""
    return prefix + _USERNAME, prefix + _PASSWORD


def login_from_variables(prefix: str, environ: Mapping[str, str]) -> Login:
    """The pair of that prefix, without the ends of lines at their end. Raises LoginError."""
    names = pair_of(prefix)
    user, password = (environ.get(name, "").rstrip(_LINE_ENDS) for name in names)
    for name, text in zip(names, (user, password), strict=True):
        if not text:
            what = "is empty" if name in environ else "is not set"
            raise LoginError(
                f"{name} {what}; accepted: {names[0]} and {names[1]} with the name of a user and"
                " the password"
            )
    return Login(user, password, f"environment {names[0]}, {names[1]}")


def login_from_folder(folder: Path) -> Login:
    """What its two files hold, without the ends of lines at their end. Raises LoginError."""
    user, password = (_text_of(folder / name) for name in LOGIN_FILES)
    return Login(user, password, f"folder {folder}")


def configured_logins(
    auth: Auth, environ: Mapping[str, str]
) -> Iterator[tuple[str, Login | LoginError]]:
    """Each entry of `auth.users_env` and `auth.users_dirs` by its key."""
    for position, prefix in enumerate(auth.users_env):
        try:
            found: Login | LoginError = login_from_variables(prefix, environ)
        except LoginError as error:
            found = error
        yield f"auth.users_env[{position}]", found
    for position, folder in enumerate(auth.users_dirs):
        try:
            found = login_from_folder(folder)
        except LoginError as error:
            found = error
        yield f"auth.users_dirs[{position}]", found


def _text_of(path: Path) -> str:
    accepted = f"accepted: a folder with the files {LOGIN_FILES[0]} and {LOGIN_FILES[1]}"
    try:
        text = path.read_text(encoding="utf-8").rstrip(_LINE_ENDS)
    except OSError as error:
        raise LoginError(f"{path} cannot be read: {error.strerror}; {accepted}") from error
    except UnicodeDecodeError as error:
        raise LoginError(f"{path} is not UTF-8 text; {accepted}") from error
    if not text:
        raise LoginError(f"{path} is empty; {accepted}")
    return text
