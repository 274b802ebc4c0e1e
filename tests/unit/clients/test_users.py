"""The users file, read again whenever it changes."""

from pathlib import Path

import pytest

from pgproxy.clients.users import Users
from pgproxy.errors import ConfigError


@pytest.mark.parametrize("content", [b"\xff\xfe", b'"a"'])
def test_a_faulty_file_changes_nothing_until_it_is_in_order(tmp_path: Path, content: bytes) -> None:
    """Of a file that is being written, the half of a character may be there."""
    path = tmp_path / "users.txt"
    path.write_text('"one" "1"\n')
    users = Users(path)
    path.write_bytes(content)
    users.refresh()
    assert list(users.entries) == ["one"]
    path.write_text('"other" "2"\n')
    users.refresh()
    assert list(users.entries) == ["other"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b'"a"'])
def test_a_faulty_file_at_the_start_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "users.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        Users(path)
