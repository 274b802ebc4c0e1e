"""BEGIN to ROLLBACK TO SAVEPOINT, and the modes of a transaction. PURE."""

from typing import Final

from pgproxy.protocol.channels import COMMITS, RELEASE, ROLLBACK_TO, ROLLS_BACK, SAVEPOINT, Act
from pgproxy.routing.decision import BEGIN, CHAIN, END, PRIMARY, REPLICA, Decision
from pgproxy.routing.reads import Tree
from pgproxy.routing.reasons import Reason

ENDS: Final = {"COMMIT": COMMITS, "ROLLBACK": ROLLS_BACK}
SAVEPOINTS: Final = {"SAVEPOINT": SAVEPOINT, "RELEASE": RELEASE, "ROLLBACK_TO": ROLLBACK_TO}

_ISOLATION: Final = "transaction_isolation"
_SERIALIZABLE: Final = "serializable"


def decide_transaction(node: Tree) -> Decision:
    kind = str(node["kind"]).removeprefix("TRANS_STMT_")
    if kind in {"BEGIN", "START"}:
        return _begin(kind, node.get("options", []))
    if kind in {"COMMIT", "ROLLBACK"}:
        chain = bool(node.get("chain"))
        return Decision(
            PRIMARY,
            Reason.TRANSACTION_CONTROL,
            kind=CHAIN if chain else END,
            detail=f"{kind} AND CHAIN" if chain else kind,
            tag=kind.encode(),
            starts_transaction=chain,
            ends_transaction=True,
            may_unpin=kind == "ROLLBACK",
            acts=((ENDS[kind], b""),),
        )
    words = kind.replace("_", " ")
    if kind in {"PREPARE", "COMMIT_PREPARED", "ROLLBACK_PREPARED"}:
        return Decision(
            PRIMARY,
            Reason.TWO_PHASE,
            detail="PREPARE TRANSACTION" if kind == "PREPARE" else words,
            known_write=True,
            ends_transaction=kind == "PREPARE",
            # PostgreSQL refuses to prepare a transaction that has listened.
            acts=((ROLLS_BACK, b""),) if kind == "PREPARE" else (),
        )
    savepoint = SAVEPOINTS.get(kind)
    acts: tuple[Act, ...] = ()
    name = str(node.get("savepoint_name", ""))
    if savepoint is not None:
        acts = ((savepoint, name.encode()),)
    return Decision(
        PRIMARY,
        Reason.TRANSACTION_CONTROL,
        detail=words,
        acts=acts,
        may_unpin=words in {"ROLLBACK TO", "ROLLBACK PREPARED"},
        # What bytes another name has depends on the encoding.
        movable=savepoint is not None and name.isascii(),
    )


def modes(options: Tree) -> tuple[bool, bool, str]:
    """Of BEGIN or SET TRANSACTION: whether it says READ ONLY, whether a standby refuses it, and the
    isolation level ("" if it says none)."""
    read_only = False
    refused = False
    isolation = ""
    for option in options:
        if option_name(option) == "transaction_read_only":
            read_only = mode(option) == "on"  # the last one holds, but
            refused = refused or not read_only  # a standby refuses READ WRITE anywhere
        elif option_name(option) == _ISOLATION:
            isolation = mode(option)
    return read_only, refused or isolation == _SERIALIZABLE, isolation


def mode(option: Tree) -> str:
    """The value of an option, as SHOW tells that of the setting behind it."""
    constant = option["DefElem"].get("arg", {}).get("A_Const", {})
    if option_name(option) == _ISOLATION:
        return str(constant.get("sval", {}).get("sval", ""))
    return "on" if constant.get("ival", {}).get("ival", 0) != 0 else "off"


def _begin(kind: str, options: Tree) -> Decision:
    read_only, refused, isolation = modes(options)
    target = PRIMARY
    reason = Reason.TRANSACTION_CONTROL
    if isolation == _SERIALIZABLE:
        reason = Reason.SERIALIZABLE
    elif read_only and not refused:
        target = REPLICA
        reason = Reason.BEGIN_READ_ONLY
    return Decision(
        target,
        reason,
        kind=BEGIN,
        detail="BEGIN" if kind == "BEGIN" else "START TRANSACTION",
        tag=b"BEGIN" if kind == "BEGIN" else b"START TRANSACTION",
        read_only=read_only,
        argument=isolation,
        known_write=refused,  # no hint or route makes a standby accept it
        starts_transaction=True,
    )


def option_name(option: Tree) -> str:
    return str(option["DefElem"].get("defname", ""))
