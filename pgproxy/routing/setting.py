"""SET, RESET and SHOW: of the server's settings, and of the proxy's own. PURE."""

import re
from typing import Final

from pglast.keywords import COL_NAME_KEYWORDS, RESERVED_KEYWORDS, TYPE_FUNC_NAME_KEYWORDS

from pgproxy.protocol.session import MIN_LSN, ROUTE, TRACE
from pgproxy.protocol.settings import LISTS, RELATIVE, Effect, is_custom, names_set, setting_name
from pgproxy.routing.decision import (
    OWN_TABLES,
    PRIMARY,
    REPLICA,
    SET_MIN_LSN,
    SET_ROUTE,
    SET_TRACE,
    SET_TRANSACTION,
    SHOW_LAST_ROUTE,
    SHOW_LSN,
    SHOW_MIN_LSN,
    SHOW_ROUTE,
    SHOW_TABLE,
    SHOW_TRACE,
    Decision,
)
from pgproxy.routing.functions import ROLE_SETTINGS, SERVER_SETTINGS
from pgproxy.routing.pins import Pin
from pgproxy.routing.reads import Tree
from pgproxy.routing.reasons import Reason
from pgproxy.routing.transactions import mode, modes, option_name

LAST_ROUTE_SETTING: Final = "pgproxy.last_route"
LSN_SETTING: Final = "pgproxy.lsn"
# The proxy's own settings: what SET and SHOW of one are.
SETS_OWN: Final = {
    ROUTE: (SET_ROUTE, Reason.SET_ROUTE),
    TRACE: (SET_TRACE, Reason.SHOW_ROUTE),
    MIN_LSN: (SET_MIN_LSN, Reason.SHOW_ROUTE),
}
SHOWS_OWN: Final = {
    ROUTE: SHOW_ROUTE,
    TRACE: SHOW_TRACE,
    MIN_LSN: SHOW_MIN_LSN,
    LAST_ROUTE_SETTING: SHOW_LAST_ROUTE,
}

_UNQUOTED: Final = re.compile("[a-z_][a-z0-9_]*")
_QUOTED_WORDS: Final = RESERVED_KEYWORDS | COL_NAME_KEYWORDS | TYPE_FUNC_NAME_KEYWORDS


def decide_set(node: Tree) -> Decision:
    kind = node["kind"]
    name = str(node.get("name", ""))
    local = bool(node.get("is_local"))
    if name.lower() in SETS_OWN and kind != "VAR_SET_CURRENT":
        values = [_constant(value) for value in node.get("args", [])]
        argument = ", ".join(values).lower()
        own, reason = SETS_OWN[name.lower()]
        tag = b"RESET" if kind == "VAR_RESET" else b"SET"
        return Decision(PRIMARY, reason, kind=own, tag=tag, argument=argument, local=local)
    if kind == "VAR_SET_MULTI" and name == "TRANSACTION":
        read_only, refused, isolation = modes(node.get("args", []))
        return Decision(
            PRIMARY,
            Reason.TRANSACTION_CONTROL,
            kind=SET_TRANSACTION,
            detail="SET TRANSACTION",
            tag=b"SET",
            read_only=read_only,
            argument=isolation,
            known_write=refused,
        )
    if kind == "VAR_SET_MULTI" and name != "SESSION CHARACTERISTICS":
        return Decision(PRIMARY, Reason.TRANSACTION_CONTROL, detail=f"SET {name}")
    resets = kind in {"VAR_RESET", "VAR_RESET_ALL", "VAR_SET_DEFAULT"}
    verb = "RESET" if kind in {"VAR_RESET", "VAR_RESET_ALL"} else "SET LOCAL" if local else "SET"
    return Decision(
        PRIMARY,
        Reason.SESSION_STATE,
        pin=_pin_of(setting_name(name)),
        detail=f"{verb} {name or 'ALL'}",
        local=local,
        effects=_effects(node, setting_name(name), local=local, resets=resets),
        anywhere=True,
    )


def _pin_of(name: str) -> Pin | None:
    if name == "seed":
        return Pin.SETSEED
    # What letters a name has that is not ASCII depends on the encoding.
    return None if name.isascii() else Pin.SET


def _effects(node: Tree, name: str, *, local: bool, resets: bool) -> tuple[Effect, ...]:
    """What a SET or RESET may leave behind when its transaction is over."""
    if node["kind"] == "VAR_RESET_ALL":
        return (Effect((), resets=True, all=True),)
    if node["kind"] == "VAR_SET_MULTI":
        options = node.get("args", [])
        return tuple(
            [Effect((f"default_{option_name(option)}",), value=mode(option)) for option in options]
        )
    names = names_set(name)
    if not names or name == "seed" or (local and not is_custom(name)):
        return ()
    value = None
    if len(names) == 1 and node["kind"] == "VAR_SET_VALUE":
        if name == "search_path":
            value = _identifiers(node.get("args", []))
        elif name not in LISTS | RELATIVE:
            value = _value(node.get("args", []))
    return (Effect(names, resets=resets, local=local, value=value, surely=True),)


def _value(arguments: Tree) -> str | None:
    """The value of a SET, where it is one constant whose letters every encoding has."""
    constant = arguments[0].get("A_Const", {}) if len(arguments) == 1 else {}
    if not {"sval", "ival", "fval"} & constant.keys():
        return None
    value = _constant(arguments[0])
    return value if value.isascii() else None


def _identifiers(arguments: Tree) -> str | None:
    """The value of a list as SHOW tells it (quote_identifier), where no version of PostgreSQL would
    quote another name of it."""
    names = [_constant(argument) if "A_Const" in argument else "?" for argument in arguments]
    if all(
        (_UNQUOTED.fullmatch(name) and name not in _QUOTED_WORDS) or name in ("$user", "")
        for name in names
    ):
        return ", ".join([name if name and name != "$user" else f'"{name}"' for name in names])
    return None


def _constant(value: Tree) -> str:
    """The text of one value of SET. Numbers and names too are constants there."""
    constant = value.get("A_Const", {})
    if "sval" in constant:
        return str(constant["sval"].get("sval", ""))
    if "ival" in constant:
        return str(constant["ival"].get("ival", 0))
    return str(constant.get("fval", {}).get("fval", "?"))


def decide_show(node: Tree) -> Decision:
    name = str(node.get("name", "")).lower()
    if name in SHOWS_OWN:
        return Decision(PRIMARY, Reason.SHOW_ROUTE, kind=SHOWS_OWN[name], detail=name)
    if name == LSN_SETTING:
        return Decision(
            PRIMARY,
            Reason.PRIMARY_FUNCTION,
            kind=SHOW_LSN,
            detail=name,
            known_write=True,  # no hint sends it to a replica
            writes=0,
        )
    if name in OWN_TABLES:
        kind = SHOW_TABLE + OWN_TABLES.index(name)
        return Decision(PRIMARY, Reason.SHOW_ROUTE, kind=kind, detail=name)
    if name in ROLE_SETTINGS:
        return Decision(PRIMARY, Reason.SERVER_ROLE, detail=f"setting {name}")
    return Decision(REPLICA, Reason.SHOW, movable=name not in SERVER_SETTINGS)
