"""What the operator may set, where it comes from, and what is wrong with it.

Times are seconds, sizes bytes. `load` fills a `Config` from a file and the environment and checks
what concerns several keys or the file system; a `Config` built in code (the demo, tests) is checked
field by field alone, and raises pydantic's ValidationError.

Others import from here alone (`make check` holds that).
"""

from pgproxy.config.logins import (
    LOGIN_FILES,
    Login,
    LoginError,
    configured_logins,
    login_from_folder,
    login_from_variables,
)
from pgproxy.config.model import (
    AVAILABLE_NOW,
    CONSOLE_DATABASES,
    Auth,
    Backend,
    Config,
    Consistency,
    Discovery,
    Dns,
    Health,
    Http,
    Kubernetes,
    Label,
    LimitEntry,
    Limits,
    Listen,
    Log,
    Patroni,
    Peers,
    Pool,
    PoolEntry,
    PresetName,
    Replication,
    Routing,
    RoutingRule,
    Server,
    TimeoutEntry,
    Timeouts,
    notices,
)
from pgproxy.config.places import nameserver
from pgproxy.config.reading import Rules, Setting, leaves, load, origins, toml_text
from pgproxy.config.rules import contradictions, label_contradictions

__all__ = [
    "AVAILABLE_NOW",
    "CONSOLE_DATABASES",
    "LOGIN_FILES",
    "Auth",
    "Backend",
    "Config",
    "Consistency",
    "Discovery",
    "Dns",
    "Health",
    "Http",
    "Kubernetes",
    "Label",
    "LimitEntry",
    "Limits",
    "Listen",
    "Log",
    "Login",
    "LoginError",
    "Patroni",
    "Peers",
    "Pool",
    "PoolEntry",
    "PresetName",
    "Replication",
    "Routing",
    "RoutingRule",
    "Rules",
    "Server",
    "Setting",
    "TimeoutEntry",
    "Timeouts",
    "configured_logins",
    "contradictions",
    "label_contradictions",
    "leaves",
    "load",
    "login_from_folder",
    "login_from_variables",
    "nameserver",
    "notices",
    "origins",
    "toml_text",
]
