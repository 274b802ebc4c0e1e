"""PURE. What the messages of a batch are, beside the texts in them, which have decisions.

Asked only of batches in transactions that may be moved from one server to another, and of those by
which one begins or ends.
"""

import re
from typing import Final

from mypy_extensions import i64

from pgproxy.frames.codes import F_BIND, F_CLOSE, F_EXECUTE, F_PARSE, F_QUERY, TARGET_PORTAL
from pgproxy.frames.read import int32
from pgproxy.protocol.prepared import is_of_the_moment
from pgproxy.protocol.states import BIND, CLOSE, DESCRIBE, EXECUTE, PARSE, SYNC
from pgproxy.routing.batch import AT_READY, Batch

# In a Bind: no formats, no parameters.
NO_VALUES: Final = b"\0\0\0\0"

# "Special Values" of the date and time types, as a parameter may have them.
_MOMENT: Final = re.compile(rb"\b(?:now|today|tomorrow|yesterday)\b", re.IGNORECASE)


def is_alone(batch: Batch) -> bool:
    """Whether the batch is one statement, executed once and last, whose success or failure is that of
    the batch."""
    if batch.ending != AT_READY:
        return False
    if batch.simple:
        return True  # of a text of several statements no caller likes the decision
    parsed = 0
    bound = 0
    executed = 0
    for owed in batch.owed:
        kind = owed.kind
        if owed.error or (executed and kind not in (SYNC, CLOSE)):
            return False
        if kind == PARSE:
            parsed += 1
        elif kind == BIND:
            bound += 1
        elif kind == EXECUTE:
            executed += 1
        elif kind not in (DESCRIBE, SYNC, CLOSE):
            return False
    return parsed <= 1 and bound == 1 and executed == 1


def is_certain(batch: Batch) -> bool:
    """Of a batch that `is_alone`: whether nothing about its messages can fail, if its statement has
    no parameters."""
    if batch.simple:
        return True
    if batch.needs.by_name:
        return False  # of what the server has under the client's own names
    for owed in batch.owed:
        if owed.kind == PARSE and (owed.statement is None or owed.statement.number < 0):
            return False  # the name is taken
    data = batch.input.data
    at: i64 = batch.start
    while at < batch.end:
        end = at + 1 + int32(data, int(at) + 1)
        if data[at] == F_BIND:
            names_end = data.index(0, data.index(0, int(at) + 5) + 1)
            if not data.startswith(NO_VALUES, names_end + 1, int(end)):
                return False
        at = end
    return True


def leaves_nothing(batch: Batch) -> bool:
    """Whether the transaction may go on elsewhere behind the batch, as far as its messages tell: no
    portal is left open, and no value stands for the time at which the transaction began."""
    if batch.ending != AT_READY:
        return False
    if batch.simple:
        return not is_of_the_moment(batch.sql())
    data = batch.input.data
    at: i64 = batch.start
    is_open = False  # the unnamed portal
    named: set[bytes] = set()  # other portals
    while at < batch.end:
        kind = data[at]
        end = at + 1 + int32(data, int(at) + 1)
        if kind == F_PARSE:
            if is_of_the_moment(data[at:end]):
                return False
        elif kind == F_BIND:
            portal_end: i64 = data.index(0, int(at) + 5)
            name_end: i64 = data.index(0, int(portal_end) + 1)
            if portal_end > at + 5:
                named.add(data[at + 5 : portal_end])
            else:
                is_open = True
            if _is_of_the_moment(batch, data[portal_end + 1 : name_end], data[name_end:end]):
                return False
        elif kind == F_EXECUTE:
            if int32(data, int(end) - 4) > 0:
                return False  # the portal may be suspended
            is_open = is_open and data[at + 5] != 0
        elif kind == F_CLOSE:
            if data[at + 5] == TARGET_PORTAL:
                named.discard(data[at + 6 : end - 1])
        elif kind == F_QUERY:
            return False
        at = end
    return not is_open and not named


def _is_of_the_moment(batch: Batch, name: bytes, values: bytes) -> bool:
    if _MOMENT.search(values):
        return True
    statement = batch.statements.named.get(name) if name else batch.statements.unnamed
    return statement is not None and is_of_the_moment(statement.sql)
