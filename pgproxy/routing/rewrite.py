"""HOT, PURE. The bytes of a batch for one server, with the statements it lacks prepared first.

A batch that names statements cannot leave unchanged: each server has its own set of prepared
statements, under our names (protocol/prepared.py). What is added here is hidden from the client,
what is left out is answered by us, both through the queue of replies owed.
"""

from typing import cast

from pgproxy.frames import write
from pgproxy.protocol.inflight import Inflight, Owed
from pgproxy.protocol.prepared import PreparedOnServer, Statement
from pgproxy.protocol.states import CLOSE, PARSE
from pgproxy.routing.edits import MAKE, USE, USE_UNNAMED
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
    made: set[Statement] | None = None  # in this batch: an error before skips the uses as well
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
            elif (made is not None and statement in made) or (
                prepared.pending(statement) is None and not sent.may_fail
            ):
                inflight.push(_answered(owed, statement))
                continue
            else:
                _close(statement, inflight, pieces)
            owed.making = prepared.make(statement, hidden=False)
            made = _with(made, statement)
            inflight.push(owed)
            if not edit.frame:
                pieces.append(_parse_of(statement))
        elif edit.kind == USE:
            assert statement is not None
            if not prepared.touch(statement):
                _make_room(statement, prepared, inflight, pieces)
                _prepare(statement, prepared, inflight, pieces)
                made = _with(made, statement)
            elif _is_ours_in_doubt(statement, prepared) and (made is None or statement not in made):
                _close(statement, inflight, pieces)
                _prepare(statement, prepared, inflight, pieces)
                made = _with(made, statement)
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


def _answered(parse: Owed, statement: Statement) -> Owed:
    """What is owed for a Parse of what the server has: our own answer. A client that parses one
    text again and again is owed the same each time."""
    if parse.name or parse.previous is not statement:
        return Owed(
            PARSE,
            answer=write.PARSE_COMPLETE,
            name=parse.name,
            statement=statement,
            previous=parse.previous,
        )
    answered = statement.answered
    if answered is None:
        answered = Owed(PARSE, answer=write.PARSE_COMPLETE, statement=statement, previous=statement)
        statement.answered = answered
    return cast(Owed, answered)


def _with(made: set[Statement] | None, statement: Statement) -> set[Statement]:
    if made is None:
        return {statement}
    made.add(statement)
    return made


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
