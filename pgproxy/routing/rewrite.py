"""HOT, PURE. The bytes of a batch for one server, with the statements it lacks prepared first.

A batch that names statements cannot leave unchanged: each server has its own set of prepared
statements, under our names (protocol/prepared.py). What is added here is hidden from the client,
what is left out is answered by us, both through the queue of replies owed.
"""

from pgproxy.frames import write
from pgproxy.protocol.inflight import Inflight, Owed
from pgproxy.protocol.prepared import PreparedOnServer, Statement
from pgproxy.protocol.states import CLOSE, PARSE
from pgproxy.routing.batch import MAKE, USE, USE_UNNAMED
from pgproxy.routing.journal import Sent


def rewrite(
    sent: Sent, prepared: PreparedOnServer, inflight: Inflight, *, pipelined: bool
) -> bytes:
    """What to send for a batch; all its replies are then owed by `inflight`.

    `pipelined`: what was sent before is not answered yet. After an error in it the server neither
    closes nor makes what it was told to. So what is made again is closed again first, and what was
    made there without the client's knowing is made once more here. In a transaction that has failed,
    or may have, even the Parse of what is there has to be asked for: it fails.
    """
    if not pipelined:
        prepared.settle()
    data = sent.data
    owings = sent.owed
    pieces: list[bytes] = []
    done = sent.start
    pushed = 0
    made: set[Statement] = set()  # in this batch: an error before skips the uses as well
    for edit in sent.edits:
        while pushed < edit.at:
            inflight.push(owings[pushed])
            pushed += 1
        if edit.start > done:
            pieces.append(data[done : edit.start])
        done = edit.end
        statement = edit.statement
        if edit.kind == MAKE:
            assert statement is not None
            owed = owings[edit.at]
            pushed += 1
            if not prepared.touch(statement):
                _make_room(statement, prepared, inflight, pieces)
            elif statement in made or (prepared.pending(statement) is None and not sent.may_fail):
                inflight.push(
                    Owed(
                        PARSE,
                        answer=write.PARSE_COMPLETE,
                        name=owed.name,
                        statement=statement,
                        previous=owed.previous,
                    )
                )
                continue
            else:
                _close(statement, inflight, pieces)
            owed.making = prepared.make(statement, hidden=False)
            made.add(statement)
            inflight.push(owed)
            if not edit.frame:
                pieces.append(_parse_of(statement))
        elif edit.kind == USE:
            assert statement is not None
            if not prepared.touch(statement):
                _make_room(statement, prepared, inflight, pieces)
                _prepare(statement, prepared, inflight, pieces)
                made.add(statement)
            elif statement not in made and _is_ours_in_doubt(statement, prepared):
                _close(statement, inflight, pieces)
                _prepare(statement, prepared, inflight, pieces)
                made.add(statement)
        elif edit.kind == USE_UNNAMED:
            assert statement is not None
            if prepared.unnamed is not statement or _is_ours_in_doubt(statement, prepared):
                prepared.unnamed = statement
                _prepare(statement, prepared, inflight, pieces)
        pieces.append(edit.frame)
    while pushed < len(owings):
        inflight.push(owings[pushed])
        pushed += 1
    if sent.new_unnamed is not None:
        prepared.unnamed = sent.new_unnamed
    if sent.end > done:
        pieces.append(data[done : sent.end])
    return b"".join(pieces)


def _is_ours_in_doubt(statement: Statement, prepared: PreparedOnServer) -> bool:
    # Where the client's own Parse fails, its Bind is to fail too.
    making = prepared.pending(statement)
    return making is not None and making.hidden


def _prepare(
    statement: Statement, prepared: PreparedOnServer, inflight: Inflight, pieces: list[bytes]
) -> None:
    making = prepared.make(statement, hidden=True)
    inflight.push(Owed(PARSE, hidden=True, statement=statement, making=making))
    pieces.append(_parse_of(statement))


def _parse_of(statement: Statement) -> bytes:
    return write.parse(statement.server_name, statement.sql, statement.parameter_types)


def _make_room(
    statement: Statement, prepared: PreparedOnServer, inflight: Inflight, pieces: list[bytes]
) -> None:
    evicted = prepared.add(statement)
    if evicted:
        inflight.push(Owed(CLOSE, hidden=True, name=evicted))
        pieces.append(write.close_statement(evicted))
    if not prepared.is_certain(statement):
        _close(statement, inflight, pieces)


def _close(statement: Statement, inflight: Inflight, pieces: list[bytes]) -> None:
    inflight.push(Owed(CLOSE, hidden=True, statement=statement))
    pieces.append(write.close_statement(statement.server_name))
