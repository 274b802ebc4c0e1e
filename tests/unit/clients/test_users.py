"""The users file, mounted Secrets and variables; what is a file is read again when it changes."""

import os
from pathlib import Path

import pytest
import structlog

from pgproxy.clients.users import Users, read_users
from pgproxy.config import Auth
from pgproxy.errors import ConfigError
from pgproxy.protocol.authentication import Credentials

APP = {"APP_USERNAME": "app", "APP_PASSWORD": "from the environment"}


class Mount:
    """A Secret as the kubelet mounts it: files that are links into a folder that is replaced."""

    def __init__(self, folder: Path, user: str, password: str) -> None:
        self.folder = folder
        self._version = 0
        folder.mkdir()
        for name in ("username", "password"):
            (folder / name).symlink_to(f"..data/{name}")
        self.write(user, password)

    def write(self, user: str, password: str) -> None:
        self._version += 1
        fresh = self.folder / f"..{self._version}"
        fresh.mkdir()
        (fresh / "username").write_text(user)
        (fresh / "password").write_text(password)
        link = self.folder / "..data_tmp"
        link.symlink_to(fresh.name)
        link.rename(self.folder / "..data")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.txt"


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    return Mount(tmp_path / "reports", "reports", "first\n")


def passwords(users: Users) -> dict[str, str]:
    return {name: entry.password for name, entry in users.entries.items()}


def faults(auth: Auth, environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Users(auth, environ)
    return caught.value.faults


@pytest.mark.parametrize("content", [b"\xff\xfe", b'"a"'])
def test_a_faulty_file_changes_nothing_until_it_is_in_order(path: Path, content: bytes) -> None:
    """Of a file that is being written, the half of a character may be there."""
    path.write_text('"one" "1"\n')
    users = Users(Auth(users_file=path), {})
    path.write_bytes(content)
    users.refresh()
    assert list(users.entries) == ["one"]
    path.write_text('"other" "2"\n')
    users.refresh()
    assert list(users.entries) == ["other"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b'"a"'])
def test_a_faulty_file_at_the_start_is_told(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        Users(Auth(users_file=path), {})


def test_without_any_there_is_nobody_and_nothing_to_follow() -> None:
    users = Users(Auth(users_file=None), {})
    assert (users.entries, users.refresh()) == ({}, "")


def test_with_trust_the_file_may_be_missing(path: Path) -> None:
    assert Users(Auth(method="trust", users_file=path), {}).entries == {}
    with pytest.raises(FileNotFoundError):
        Users(Auth(users_file=path), {})


def test_file_secret_and_variables_are_one_list(path: Path, mount: Mount) -> None:
    path.write_text('"one" "1"\n')
    auth = Auth(users_file=path, users_env=("APP",), users_dirs=(mount.folder,))
    assert passwords(Users(auth, APP)) == {
        "one": "1",
        "app": "from the environment",
        "reports": "first",
    }
    assert [origin for _, origin in read_users(auth, APP, path)] == [
        f"file {path}",
        "environment APP_USERNAME, APP_PASSWORD",
        f"folder {mount.folder}",
    ]


def test_a_secret_is_followed_its_user_too(mount: Mount) -> None:
    users = Users(Auth(users_file=None, users_env=("APP",), users_dirs=(mount.folder,)), APP)
    mount.write("reports", "second")
    assert users.refresh() == ""
    assert users.credentials("reports").password == "second"
    mount.write("other", "third")
    users.refresh()
    assert sorted(passwords(users)) == ["app", "other"]


def test_what_clients_have_shown_holds_until_their_own_entry_changes(
    path: Path, mount: Mount
) -> None:
    """Of a SCRAM secret nothing opens a server before its user has logged in."""
    path.write_text('"one" "1"\n"two" "2"\n')
    users = Users(Auth(users_file=path, users_dirs=(mount.folder,)), {})
    for user in ("one", "two", "reports"):
        users.show(users.entries[user], Credentials("shown"))
    mount.write("reports", "second")
    users.refresh()
    found = {user: users.credentials(user).password for user in ("one", "two", "reports")}
    assert found == {"one": "shown", "two": "shown", "reports": "second"}
    path.write_text('"two" "other"\n')
    before = users.entries["two"]
    users.refresh()
    # Somebody whose log-in has begun before.
    users.show(before, Credentials("shown"))
    assert users.credentials("one").password == ""
    assert users.credentials("two").password == "other"


def test_a_secret_that_goes_bad_changes_nothing_until_it_is_in_order(mount: Mount) -> None:
    users = Users(Auth(users_file=None, users_dirs=(mount.folder,)), {})
    mount.write("reports", "")
    fault = users.refresh()
    assert fault == (
        f"auth.users_dirs[0]: {mount.folder}/password is empty; accepted: a folder with the files "
        "username and password"
    )
    assert users.refresh() == fault
    assert passwords(users) == {"reports": "first"}
    mount.write("reports", "second")
    assert users.refresh() == ""
    assert passwords(users) == {"reports": "second"}


def test_a_folder_that_was_away_and_comes_back_as_it_was(mount: Mount) -> None:
    users = Users(Auth(users_file=None, users_dirs=(mount.folder,)), {})
    elsewhere = mount.folder.with_name("elsewhere")
    mount.folder.rename(elsewhere)
    with structlog.testing.capture_logs() as log:
        faults = {users.refresh() for _ in range(3)}
    assert [line["event"] for line in log] == ["users_unusable"]
    assert "No such file" in faults.pop()
    assert not faults
    elsewhere.rename(mount.folder)
    assert users.refresh() == ""
    assert passwords(users) == {"reports": "first"}


def test_a_file_that_is_made_readable_is_read(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = Users(Auth(users_file=None, users_dirs=(mount.folder,)), {})
    mount.write("reports", "second")
    with monkeypatch.context() as patched:

        def refuse(path: Path, **_options: str) -> str:
            raise PermissionError(13, "Permission denied", str(path))

        patched.setattr(Path, "read_text", refuse)  # root may read everything
        assert "Permission denied" in users.refresh()
    password = mount.folder / "password"
    before = password.stat().st_ctime_ns
    while password.stat().st_ctime_ns == before:  # the kernel's clock is coarse
        password.chmod(0o644)
    assert users.refresh() == ""
    assert passwords(users) == {"reports": "second"}


def test_name_and_password_are_of_one_version(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Secret is replaced between the reading of its two files."""
    read_text = Path.read_text
    replaced = []

    def read_and_replace(path: Path, *arguments: str, **options: str) -> str:
        text = read_text(path, *arguments, **options)
        if path.name == "username" and not replaced:
            replaced.append(path)
            mount.write("newer", "second")
        return text

    monkeypatch.setattr(Path, "read_text", read_and_replace)
    users = Users(Auth(users_file=None, users_dirs=(mount.folder,)), {})
    assert passwords(users) == {"newer": "second"}


def test_a_user_of_two_places_is_a_fault(path: Path, mount: Mount) -> None:
    path.write_text('"app" "1"\n')
    auth = Auth(users_file=path, users_env=("APP",), users_dirs=(mount.folder,))
    assert faults(auth, APP) == [
        f'auth.users_env[0]: user "app" is in file {path} too; accepted: each once'
    ]
    path.write_text('"one" "1"\n')
    users = Users(auth, APP)
    mount.write("one", "2")
    assert 'user "one" is in file' in users.refresh()
    assert sorted(passwords(users)) == ["app", "one", "reports"]


def test_what_no_user_can_have_is_a_fault_without_its_secret(tmp_path: Path) -> None:
    mount = Mount(tmp_path / "odd", "app", "hun\x00ter2")
    auth = Auth(users_file=None, users_env=("APP",), users_dirs=(mount.folder,))
    found = faults(auth, {"APP_USERNAME": "one", "APP_PASSWORD": "SCRAM-SHA-256$hunter2"})
    assert [fault.partition(": ")[0] for fault in found] == [
        "auth.users_env[0]",
        "auth.users_dirs[0]",
    ]
    assert "SCRAM secret" in found[0]
    assert "NUL" in found[1]
    assert not any("ter2" in fault for fault in found)


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    auth = Auth(users_file=None, users_dirs=(tmp_path / "nothing",))
    with pytest.raises((OSError, ConfigError)):
        Users(auth, os.environ)
