"""Why a session must keep its server connection, and what takes that back. PURE."""

from enum import Enum
from typing import Final


class Pin(Enum):
    """Why a session must keep its server connection after the statement. The values are stable."""

    SET = "set"  # UPDATE pg_settings, or a setting that cannot be taken along
    SET_CONFIG = "set_config"  # of a setting that the text does not name
    POOL_MODE = "pool_mode"  # pool.mode = "session": set by the relay
    TEMP_TABLE = "temp_table"  # or any other temporary object
    LISTEN = "listen"
    HOLD_CURSOR = "hold_cursor"
    ADVISORY_LOCK = "advisory_lock"
    LOAD = "load"
    SETSEED = "setseed"
    REPLICATION = "replication"  # origins, temporary slots, a running backup
    DO_BLOCK = "do_block"  # its body may change the session
    UNPARSED = "unparsed"


# What an error in the statement's own transaction takes back. Advisory locks, LOAD,
# setseed and whatever a DO block did before its own COMMIT outlive the error.
UNDONE_BY_ERROR: Final = frozenset(
    {
        Pin.SET,
        Pin.SET_CONFIG,
        Pin.TEMP_TABLE,
        Pin.LISTEN,
        Pin.HOLD_CURSOR,
    }
)

# What not even DISCARD ALL takes back: the connection ends with its client.
NEVER_UNDONE: Final = frozenset({Pin.LOAD, Pin.SETSEED, Pin.REPLICATION})
# What a text has done to its session that is not read, or not to its end.
NEVER_SEEN: Final = frozenset({Pin.DO_BLOCK, Pin.UNPARSED})
# The names of settings that are made when the statement runs.
COMPUTED: Final = frozenset({Pin.SET, Pin.SET_CONFIG})


def lasting_pin(pins: list[Pin]) -> Pin | None:
    """The pin that counts of several: the one that is hardest to undo. Those that the server can
    be asked about count last, since it tells of all of them."""
    for hardest in (NEVER_UNDONE, NEVER_SEEN):
        for pin in pins:
            if pin in hardest:
                return pin
    if Pin.ADVISORY_LOCK in pins:
        # An unlock must not end the others, nor an error this one.
        return Pin.UNPARSED if not COMPUTED.isdisjoint(pins) else Pin.ADVISORY_LOCK
    for pin in pins:
        if pin in COMPUTED:
            return pin
    return pins[0] if pins else None
