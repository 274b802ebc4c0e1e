from pathlib import Path

import pytest

from pgproxy.config import Auth
from pgproxy.config.logins import (
    Login,
    LoginError,
    configured_logins,
    login_from_folder,
    login_from_variables,
)

pytestmark = pytest.mark.once

PAIR = {"APP_USERNAME": "app", "APP_PASSWORD": "hunter2"}
ACCEPTED = "; accepted: APP_USERNAME and APP_PASSWORD with the name of a user and the password"


def test_a_pair_of_variables() -> None:
    found = login_from_variables("APP", PAIR)
    assert (found.user, found.password) == ("app", "hunter2")
    assert found.origin == "environment APP_USERNAME, APP_PASSWORD"
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_pair_of_a_secret_that_was_made_with_echo(end: str) -> None:
    found = login_from_variables(
        "APP", {"APP_USERNAME": f"app{end}", "APP_PASSWORD": f" hunter2 {end}"}
    )
    assert (found.user, found.password) == ("app", " hunter2 ")


@pytest.mark.parametrize("name", PAIR)
@pytest.mark.parametrize("value", [None, "", "\n"])
def test_half_a_pair(name: str, value: str | None) -> None:
    environ = {key: text for key, text in PAIR.items() if key != name}
    if value is not None:
        environ[name] = value
    with pytest.raises(LoginError) as caught:
        login_from_variables("APP", environ)
    what = "is not set" if value is None else "is empty"
    assert str(caught.value) == f"{name} {what}{ACCEPTED}"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_folder(tmp_path: Path, end: str) -> None:
    (tmp_path / "username").write_bytes(b"app" + end.encode())
    (tmp_path / "password").write_bytes(b" hunter2 " + end.encode())
    assert login_from_folder(tmp_path) == Login("app", " hunter2 ", f"folder {tmp_path}")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff", "is not UTF-8 text"),
    ],
)
def test_half_a_folder(tmp_path: Path, content: bytes | None, what: str) -> None:
    (tmp_path / "username").write_text("app")
    if content is not None:
        (tmp_path / "password").write_bytes(content)
    with pytest.raises(LoginError) as caught:
        login_from_folder(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/password {what}; accepted: a folder with the files username and password"
    )


def test_each_entry_has_its_key(tmp_path: Path) -> None:
    auth = Auth(users_env=("APP", "OTHER"), users_dirs=(tmp_path,))
    found = dict(configured_logins(auth, PAIR))
    assert list(found) == ["auth.users_env[0]", "auth.users_env[1]", "auth.users_dirs[0]"]
    assert [isinstance(one, Login) for one in found.values()] == [True, False, False]
