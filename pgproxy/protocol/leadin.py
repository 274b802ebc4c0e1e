"""PURE. Hidden messages that bring names in line on a server, in front of what uses them.

They are of the extended protocol, and have names of ours: the client's unnamed statement and portal
stay as they are. Standing before a batch each has its own Sync, so that one that fails (a table has
been dropped since) fails alone: its client is told in place of what its own text gets then. Inside
a batch there is no Sync, and the batch fails with them.
"""

from typing import Final

from pgproxy.frames import write
from pgproxy.frames.codes import F_BIND, F_CLOSE, F_EXECUTE
from pgproxy.protocol.inflight import LINE_UP, LINE_UP_INSIDE, Inflight, Owed
from pgproxy.protocol.named import STAND_IN, Need
from pgproxy.protocol.prepared import PreparedOnServer, Statement
from pgproxy.protocol.states import BIND, CLOSE, EXECUTE, PARSE, SYNC

# The statement and the portal by which a text of ours is run.
_OURS: Final = b"pgproxy_lead"
_CLOSE_STATEMENT: Final = write.close_statement(_OURS)
_BIND_EXECUTE_CLOSE: Final = (
    write.frame(F_BIND, _OURS + b"\0" + _OURS + b"\0" + bytes(6))
    + write.frame(F_EXECUTE, _OURS + b"\0" + bytes(4))
    + write.frame(F_CLOSE, b"P" + _OURS + b"\0")
)
_NO_TYPES: Final = bytes(2)


def quoted(name: bytes) -> bytes:
    """As an identifier in SQL."""
    return b'"' + name.replace(b'"', b'""') + b'"'


def lead_in(
    needs: dict[bytes, Need], prepared: PreparedOnServer, inflight: Inflight, *, inside: bool
) -> bytes:
    """What to send so that the server has what is needed; `inflight` owes the replies then.

    Everything sent before must be answered, and no transaction may have failed.
    """
    if not needs:
        return b""
    role = LINE_UP_INSIDE if inside else LINE_UP
    named = prepared.named
    pieces: list[bytes] = []
    for need in needs.values():
        name = need.name
        here = named.pop(name, None)
        wanted = need.statement
        if here is not None and (wanted is None or (need.exact and here is not wanted)):
            _run(b"DEALLOCATE " + quoted(name), name, True, role, inflight, pieces)
            here = None
        if wanted is not None and here is None:
            here = wanted if need.exact else STAND_IN
            _make(name, here, role, inflight, pieces)
        if here is not None:
            named[name] = here  # as the last used
    if len(named) + 1 > prepared.limit:
        _make_room(needs, prepared, role, inflight, pieces)
    return b"".join(pieces)


def _make_room(
    needs: dict[bytes, Need],
    prepared: PreparedOnServer,
    role: int,
    inflight: Inflight,
    pieces: list[bytes],
) -> None:
    named = prepared.named
    too_many = len(named) + 1 - int(prepared.limit)
    for name in [name for name in named if name not in needs][:too_many]:
        del named[name]
        _run(b"DEALLOCATE " + quoted(name), name, True, role, inflight, pieces)


def _make(
    name: bytes, statement: Statement, role: int, inflight: Inflight, pieces: list[bytes]
) -> None:
    if statement is STAND_IN:
        _run(b"PREPARE " + quoted(name) + b" AS SELECT", name, False, role, inflight, pieces)
    elif statement.by_sql:
        _run(statement.sql, name, False, role, inflight, pieces)
    else:
        inflight.push(Owed(PARSE, hidden=True, role=role, name=name))
        pieces.append(write.parse(name, statement.sql, statement.parameter_types))
        _end(role, inflight, pieces)


def _run(
    sql: bytes, name: bytes, is_gone: bool, role: int, inflight: Inflight, pieces: list[bytes]
) -> None:
    """Runs a PREPARE or DEALLOCATE of that name."""
    # One that failed has left its statement.
    inflight.push(Owed(CLOSE, hidden=True, role=role))
    inflight.push(Owed(PARSE, hidden=True, role=role, name=name))
    inflight.push(Owed(BIND, hidden=True, role=role))
    inflight.push(Owed(EXECUTE, hidden=True, role=role, name=name, statement=_mark(is_gone)))
    inflight.push(Owed(CLOSE, hidden=True, role=role))
    pieces.append(_CLOSE_STATEMENT)
    pieces.append(write.parse(_OURS, sql, _NO_TYPES))
    pieces.append(_BIND_EXECUTE_CLOSE)
    _end(role, inflight, pieces)


def _mark(is_gone: bool) -> Statement | None:
    """A DEALLOCATE that is not done leaves nobody knows what."""
    return STAND_IN if is_gone else None


def _end(role: int, inflight: Inflight, pieces: list[bytes]) -> None:
    if role == LINE_UP:
        inflight.push(Owed(SYNC, hidden=True, role=role))
        pieces.append(write.SYNC)
