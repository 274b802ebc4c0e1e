"""Who may log in, and who the proxy itself is: told in one way, and readable."""

from collections.abc import Iterator, Mapping

from pgproxy.config.clients import Auth
from pgproxy.config.faults import Fault, unreadable
from pgproxy.config.logins import (
    LoginError,
    configured_logins,
    login_from_folder,
    login_from_variables,
)
from pgproxy.config.topology import Health


def user_faults(
    auth: Auth, sources: Mapping[str, str], environ: Mapping[str, str]
) -> Iterator[Fault]:
    """Who may log in; the users file itself is read when it is used."""
    if auth.users_file is not None:
        if auth.needs_users or "auth.users_file" in sources:
            yield from unreadable("auth.users_file", auth.users_file)
    elif auth.needs_users and not auth.users_env and not auth.users_dirs:
        yield Fault(
            "auth.users_file",
            f'auth.method = "{auth.method}" needs one, or auth.users_env or auth.users_dirs; '
            "accepted: the path of a file in PgBouncer's userlist format: "
            '"user" "password" on each line',
        )
    seen: dict[str, str] = {}
    for key, login in configured_logins(auth, environ):
        if isinstance(login, LoginError):
            yield Fault(key, str(login))
        elif login.user in seen:
            yield Fault(
                key, f'user "{login.user}" is in {seen[login.user]} too; accepted: each once'
            )
        else:
            seen[login.user] = key


def own_login_faults(
    health: Health, sources: Mapping[str, str], environ: Mapping[str, str]
) -> Iterator[Fault]:
    """Who the monitor is: told in one way."""
    if health.password_file is not None:
        yield from unreadable("health.password_file", health.password_file)
        if health.password.get_secret_value():
            yield Fault("health.password", "and health.password_file are both set; keep one")
    elsewhere = ""
    try:
        if health.user_env:
            elsewhere = "health.user_env"
            login_from_variables(health.user_env, environ)
        if health.user_dir is not None:
            if elsewhere:
                yield Fault("health.user_dir", f"and {elsewhere} are both set; keep one")
            elsewhere = "health.user_dir"
            login_from_folder(health.user_dir)
    except LoginError as error:
        yield Fault(elsewhere, str(error))
    for key in ("health.user", "health.password", "health.password_file"):
        if elsewhere and key in sources:
            yield Fault(key, f"and {elsewhere} are both set; keep one")
