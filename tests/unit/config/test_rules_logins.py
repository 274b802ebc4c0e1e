"""Users and the monitor's own log-in, elsewhere than in the configuration."""

from pathlib import Path

import pytest

from pgproxy.config import load
from pgproxy.errors import ConfigError

pytestmark = pytest.mark.once

BACKEND = {"PGPROXY_DISCOVERY__BACKENDS": '[{"host": "db"}]'}
PAIR = {"APP_USERNAME": "app", "APP_PASSWORD": "hunter2"}
USERS_ENV = {"PGPROXY_AUTH__USERS_ENV": '["APP"]'}


def secret(folder: Path, user: str = "app") -> Path:
    folder.mkdir()
    (folder / "username").write_text(user)
    (folder / "password").write_text("hunter2")
    return folder


def refused_environment(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(None, BACKEND | environ)
    return caught.value.faults


def test_who_names_users_elsewhere_needs_no_file(path: Path) -> None:
    assert load(None, BACKEND | USERS_ENV | PAIR).auth.users_file is None
    secret(path.parent / "app")
    path.write_text('[auth]\nusers_dirs = ["app"]\n')
    config = load(path, BACKEND)
    assert config.auth.users_dirs == (path.parent / "app",)
    assert config.auth.users_file is None


def test_a_file_beside_them_is_read_if_it_is_named(path: Path) -> None:
    (path.parent / "users.txt").write_text("")
    path.write_text('[auth]\nusers_file = "users.txt"\n')
    config = load(path, BACKEND | USERS_ENV | PAIR)
    assert config.auth.users_file == path.parent / "users.txt"


@pytest.mark.parametrize("prefix", ["PGPROXY", "PGPROXY_AUTH", "PGPROXY__APP"])
def test_a_pair_may_begin_like_a_key(prefix: str) -> None:
    pair = {f"{prefix}_USERNAME": "app", f"{prefix}_PASSWORD": "hunter2"}
    users = {"PGPROXY_AUTH__USERS_ENV": f'["{prefix}"]'}
    health = {"PGPROXY_HEALTH__USER_ENV": prefix}
    config = load(None, BACKEND | users | health | pair)
    assert (config.auth.users_env, config.health.user_env) == ((prefix,), prefix)
    (line,) = refused_environment(**users, **pair, PGPROXY_HEALTH_USERNAME="me")
    assert line.startswith("PGPROXY_HEALTH_USERNAME: is no key")


def test_half_a_pair_is_refused() -> None:
    half = {"APP_PASSWORD": "hunter2"}
    assert refused_environment(**USERS_ENV, **half) == [
        "PGPROXY_AUTH__USERS_ENV: auth.users_env[0]: APP_USERNAME is not set; accepted: APP_USERNAME"
        " and APP_PASSWORD with the name of a user and the password"
    ]


def test_a_word_that_begins_no_variable_is_refused() -> None:
    for word in ("", "APP-1", "1APP", "A P"):
        assert refused_environment(PGPROXY_AUTH__USERS_ENV=f'["{word}"]') == [
            f'PGPROXY_AUTH__USERS_ENV: auth.users_env[0]: "{word}" is not accepted; accepted: '
            'a list of words such as ["APP"], for APP_USERNAME and APP_PASSWORD'
        ]


def test_a_folder_that_is_no_secret_is_refused(path: Path) -> None:
    path.write_text('[auth]\nusers_dirs = ["app"]\n')
    with pytest.raises(ConfigError) as caught:
        load(path, BACKEND)
    assert caught.value.faults == [
        f"{path}: auth.users_dirs[0]: {path.parent}/app/username cannot be read: No such file or "
        "directory; accepted: a folder with the files username and password"
    ]


def test_a_user_in_two_places_is_refused(path: Path) -> None:
    folder = secret(path.parent / "app")
    given = {"PGPROXY_AUTH__USERS_DIRS": f'["{folder}"]'}
    assert refused_environment(**USERS_ENV, **PAIR, **given) == [
        'PGPROXY_AUTH__USERS_DIRS: auth.users_dirs[0]: user "app" is in auth.users_env[0] too; '
        "accepted: each once"
    ]


def test_the_monitor_s_name_and_password_come_from_one_place(path: Path) -> None:
    folder = secret(path.parent / "monitor")
    auth = USERS_ENV | PAIR
    one = {"PGPROXY_HEALTH__USER_DIR": str(folder)}
    assert load(None, BACKEND | auth | one).health.user_dir == folder
    other = {"PGPROXY_HEALTH__USER_ENV": "APP"}
    assert load(None, BACKEND | auth | other).health.user_env == "APP"
    more = {"PGPROXY_HEALTH__USER": "me", "PGPROXY_HEALTH__PASSWORD": "x"}
    assert [line.partition(": ")[2] for line in refused_environment(**auth, **one, **other)] == [
        "health.user_dir: and health.user_env are both set; keep one"
    ]
    assert [line.partition(": ")[2] for line in refused_environment(**auth, **other, **more)] == [
        "health.user: and health.user_env are both set; keep one",
        "health.password: and health.user_env are both set; keep one",
    ]
    (line,) = refused_environment(**auth, PGPROXY_HEALTH__USER_ENV="MONITOR")
    assert line.startswith("PGPROXY_HEALTH__USER_ENV: health.user_env: MONITOR_USERNAME is not set")
    (folder / "password").write_text("")
    (line,) = refused_environment(**auth, **one)
    assert line.startswith(f"PGPROXY_HEALTH__USER_DIR: health.user_dir: {folder}/password is empty")
