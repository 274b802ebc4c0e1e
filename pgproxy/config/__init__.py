"""What the operator may set, where it comes from, and what is wrong with it.

Times are seconds, sizes bytes. `load` fills a `Config` from a file and the environment and checks
what concerns several keys or the file system; a `Config` built in code (the demo, tests) is checked
field by field alone, and raises pydantic's ValidationError. Others import from here alone.

    kinds  places  names      what a value may be
    clients  servers  limits  routing  topology  beside  telemetry      the sections, by what they set
    model                     all of them: `Config`
    keys  text                what the models say of their keys; values as TOML has them
    logins                    names and passwords that stand elsewhere
    environment  faults       variables; what is wrong, in one line
    rules  rules_*  available keys that need or exclude each other; what is not in effect
    reading                   all of it together: `load`, `origins`
"""

from pgproxy.config.available import AVAILABLE_NOW, notices
from pgproxy.config.beside import Label, Peers
from pgproxy.config.clients import CONSOLE_DATABASES, Auth, Listen
from pgproxy.config.kinds import TLS_REQUIRES, TLS_VERIFIES
from pgproxy.config.limits import LimitEntry, Limits, TimeoutEntry, Timeouts
from pgproxy.config.logins import (
    LOGIN_FILES,
    Login,
    LoginError,
    configured_logins,
    login_from_folder,
    login_from_variables,
)
from pgproxy.config.model import Config
from pgproxy.config.names import PresetName
from pgproxy.config.places import nameserver
from pgproxy.config.reading import Rules, Setting, load, origins
from pgproxy.config.routing import Consistency, Routing, RoutingRule
from pgproxy.config.rules import contradictions
from pgproxy.config.rules_label import label_contradictions
from pgproxy.config.servers import Pool, PoolEntry, Replication, Server
from pgproxy.config.telemetry import Http, Log
from pgproxy.config.text import leaves, toml_text
from pgproxy.config.topology import Backend, Discovery, Dns, Health, Kubernetes, Patroni

__all__ = [
    "AVAILABLE_NOW",
    "CONSOLE_DATABASES",
    "LOGIN_FILES",
    "TLS_REQUIRES",
    "TLS_VERIFIES",
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
