"""HOT, PURE. What the proxy answers itself, and the transaction as the client sees it.

BEGIN is held back: it is answered at once and sent, hidden, in front of the first statement, which
shows where the transaction has to go; SET TRANSACTION behind it likewise. So a transaction may have
begun, ended or even failed without any server knowing. The rest that needs no server: SET and SHOW of
pgproxy's own settings, LISTEN, Close and Sync, and Parse of a text that some server has accepted before.
"""

from collections.abc import Callable
from typing import Final, final

from mypy_extensions import i64

from pgproxy.errors import FEATURE_NOT_SUPPORTED, PgError
from pgproxy.frames import write
from pgproxy.frames.codes import (
    STATUS_FAILED,
    STATUS_IDLE,
    STATUS_IN_TRANSACTION,
    TARGET_STATEMENT,
)
from pgproxy.protocol.channels import HAS_SET, Channels
from pgproxy.protocol.inflight import OWED_COPY_END, OWED_EXECUTE, OWED_SYNC
from pgproxy.protocol.session import MIN_LSN, ROUTE, TRACE, Session
from pgproxy.protocol.states import BIND, CLOSE, DESCRIBE, EXECUTE, PARSE
from pgproxy.routing.batch import AT_READY, CUT, Batch
from pgproxy.routing.decision import (
    BEGIN,
    CHAIN,
    DEALLOCATE,
    END,
    LISTEN,
    PLAIN,
    PRIMARY,
    SET_MIN_LSN,
    SET_ROUTE,
    SET_TRACE,
    SET_TRANSACTION,
    SHOW_CHANNELS,
    SHOW_MIN_LSN,
    SHOW_ROUTE,
    SHOW_TABLE,
    SHOW_TRACE,
    UNLISTEN,
    Decision,
)
from pgproxy.routing.own import CHANNEL_KINDS
from pgproxy.routing.reasons import CODES, REASONS, Reason
from pgproxy.routing.shape import is_alone, is_certain

READY: Final = {
    STATUS_IDLE: write.READY_IDLE,
    STATUS_IN_TRANSACTION: write.READY_IN_TRANSACTION,
    STATUS_FAILED: write.READY_FAILED,
}


# Behind BEGIN: a query was made, so that the isolation level cannot be set any more. It has no rows,
# which would pass to the client.
QUERIED: Final = b"\n;SELECT WHERE false"
# What the proxy answers, and PostgreSQL takes a snapshot for.
WITH_SNAPSHOT: Final = (DEALLOCATE, SHOW_CHANNELS)
RULE: Final = CODES[Reason.RULE]

SETTINGS_SET: Final = {SET_ROUTE: ROUTE, SET_TRACE: TRACE, SET_MIN_LSN: MIN_LSN}
SETTINGS_SHOWN: Final = {SHOW_ROUTE: ROUTE, SHOW_TRACE: TRACE, SHOW_MIN_LSN: MIN_LSN}

IN_FAILED_TRANSACTION: Final = PgError(
    "25P02",
    "current transaction is aborted, commands ignored until end of transaction block",
)


@final
class LastRoute:
    """Where the previous statement went, kept as it was decided and put into words on demand."""

    def __init__(self) -> None:
        self.decision: Decision | None = None
        self.target: i64 = PRIMARY
        self.code: i64 = 0  # the reason that counted in the end
        self.rule = ""  # the rule that gave the session its route, if that is the reason
        self.backend = ""

    def fields(self) -> list[str]:
        """Target, reason, backend, detail; [] before the first statement."""
        decision = self.decision
        if decision is None:
            return []
        target = "primary" if self.target == PRIMARY else "replica"
        detail = decision.detail
        if self.code == RULE and decision.code != RULE:
            detail = self.rule
        return [target, REASONS[int(self.code)].value, self.backend, detail]


@final
class Front:
    """One session's. `status` is what the last ReadyForQuery has told the client. `tables` has the
    RowDescription and DataRows of each of OWN_TABLES. `holds_begin`: BEGIN of the simple protocol is
    held back; `holds_extended`: that of the extended protocol too, if it is alone in its batch."""

    def __init__(
        self,
        session: Session,
        *,
        holds_begin: bool,
        holds_extended: bool = False,
        tables: Callable[[str], list[bytes]] | None = None,
    ) -> None:
        self.session = session
        self.channels = Channels(session)
        self.last_route = LastRoute()
        self.status: i64 = STATUS_IDLE
        # The frame of a BEGIN that the client believes executed, with what SET TRANSACTION has added.
        self.held = b""
        self.held_read_only = False
        self.held_says_access = False  # READ ONLY or READ WRITE, or the server refuses it anyway
        self.held_needs_primary = False  # READ WRITE or SERIALIZABLE: a standby refuses it
        self.held_for_primary = False  # by a hint, or because it comes from a replica
        self.held_isolation = ""  # if it says one
        self._has_queried = False  # behind it, as far as the client knows
        self.failure = IN_FAILED_TRANSACTION  # what the next statement of a failed one gets
        self._holds_begin = holds_begin
        self._holds_extended = holds_begin and holds_extended
        self._tables = tables

    def answer(self, batch: Batch) -> bytes | None:
        """The answer to a batch if it needs no server (while none is leased), else None.

        Raises `PgError` for an ERROR that `refuse` turns into an answer.
        """
        decision = batch.executed
        if self.status == STATUS_FAILED:
            return self._in_failed_transaction(batch, decision)
        if batch.own != PLAIN and (batch.ending == AT_READY or batch.own in CHANNEL_KINDS):
            return self.answer_own(batch)
        if decision is None:
            return self._bookkeeping(batch)
        kind = decision.kind
        if kind == PLAIN:
            return None
        if not batch.simple and not (
            self._holds_extended and is_alone(batch) and is_certain(batch)
        ):
            return None
        if len(self.held) > 0:
            return self._behind_begin(batch, decision)
        if kind == BEGIN and self._holds_begin:
            self.held = batch.raw() if batch.simple else write.query(batch.sql())
            self.held_read_only = False
            self.held_says_access = False
            self.held_needs_primary = False
            self.held_for_primary = decision.hint == PRIMARY
            self.held_isolation = ""
            self._has_queried = False
            self._take_modes(decision)
            return self._tag(batch, decision.tag, STATUS_IN_TRANSACTION)
        return None

    def held_again(self) -> None:
        """`held` is the BEGIN of a transaction in which something was asked already, and which is to
        go on on the primary."""
        self.held_for_primary = True
        self._has_queried = True

    def is_read_only(self, default: bool) -> bool:
        """Whether the transaction whose BEGIN is held back can only read, and be so on a standby;
        `default`: default_transaction_read_only."""
        if self.held_needs_primary or self.held_for_primary:
            return False
        return self.held_read_only or (default and not self.held_says_access)

    def _behind_begin(self, batch: Batch, decision: Decision) -> bytes | None:
        """The transaction has begun, and nothing was asked in it."""
        kind = decision.kind
        if kind == SET_TRANSACTION and not self._has_queried:
            # A comment at the end of BEGIN ends with the line.
            self.held = write.query(self.held[5:-1] + b"\n;" + batch.sql())
            self._take_modes(decision)
            return self._tag(batch, decision.tag, STATUS_IN_TRANSACTION)
        if kind not in (END, CHAIN):
            return None
        status = STATUS_IN_TRANSACTION
        if kind == END:
            self.held = b""
            status = STATUS_IDLE
        self.channels.end(committed=decision.tag == b"COMMIT")
        return self._tag(batch, decision.tag, status)

    def _take_modes(self, decision: Decision) -> None:
        if decision.read_only or decision.known_write:
            self.held_read_only = decision.read_only
            self.held_says_access = True
        if decision.known_write:
            self.held_needs_primary = True
        if decision.argument:
            self.held_isolation = decision.argument

    def answer_own(self, batch: Batch) -> bytes:
        """SET and SHOW of what is the proxy's own, DEALLOCATE, and LISTEN and its like, whose acts
        are the caller's. Raises `PgError`."""
        decision = batch.executed if batch.executed is not None else batch.decision
        assert decision is not None
        rows: list[bytes] = []
        tag = b"SHOW"
        if batch.own in SETTINGS_SET:
            tag = decision.tag
            if batch.executes:
                self._set(SETTINGS_SET[batch.own], decision)
        elif batch.own == DEALLOCATE:
            assert decision.names is not None
            use = decision.names.uses[0]
            tag = b"DEALLOCATE" if use.name else b"DEALLOCATE ALL"
            if batch.executes:
                batch.statements.name_done(use)
        elif batch.own in SETTINGS_SHOWN:
            rows = self.session.show(SETTINGS_SHOWN[batch.own])
        elif batch.own == LISTEN:
            tag = b"LISTEN"
        elif batch.own == UNLISTEN:
            tag = b"UNLISTEN"
        elif batch.own == SHOW_CHANNELS:
            rows = [write.row_description([b"pg_listening_channels"])]
            rows += [write.data_row([channel]) for channel in self.channels.active]
            tag = b"SELECT %d" % len(self.channels.active)
        elif batch.own >= SHOW_TABLE:
            rows = self._table(decision.detail)
        else:
            rows = self.session.show_last_route(self.last_route.fields())
        if batch.simple:
            batch.statements.unnamed = None  # a simple Query drops it
        if len(self.held) > 0 and batch.own in WITH_SNAPSHOT and not self._has_queried:
            self._has_queried = True
            self.held = write.query(self.held[5:-1] + QUERIED)
        return _answers(batch, rows, tag, READY[int(self.status)])

    def _set(self, name: str, decision: Decision) -> None:
        in_transaction = self.status != STATUS_IDLE
        self.session.set(
            name, decision.argument, local=decision.local, in_transaction=in_transaction
        )
        if in_transaction:
            self.channels.act((HAS_SET,))

    def _table(self, name: str) -> list[bytes]:
        if self._tables is None:
            raise PgError(FEATURE_NOT_SUPPORTED, f"SHOW {name} has nobody here to answer it")
        return self._tables(name)

    def refuse(self, batch: Batch, error: PgError) -> bytes:
        """The answer to a batch that cannot be run; a transaction that has begun has failed."""
        if self.status == STATUS_IN_TRANSACTION:
            self.status = STATUS_FAILED
            self.held = b""
        answer = write.error_response(error)
        if batch.ending == AT_READY:
            return answer + READY[int(self.status)]
        batch.skipping = True
        return answer

    def _tag(self, batch: Batch, tag: bytes, status: i64) -> bytes:
        self.status = status
        if batch.simple:
            batch.statements.unnamed = None  # a simple Query drops it
        return _answers(batch, [], tag, READY[int(status)])

    def _bookkeeping(self, batch: Batch) -> bytes | None:
        """Nothing is executed. A driver that prepares while it holds up others (pgbench does)
        must not wait for a lease, so a Parse that is known to succeed is answered."""
        if batch.ending == CUT:
            is_stray = len(batch.owed) == 1 and batch.owed[0] is OWED_COPY_END
            return b"" if is_stray else None  # the end of a COPY that has failed long ago
        answers: list[bytes] = []
        for owed in batch.owed:
            statement = owed.statement
            if owed.answer:
                answers.append(owed.answer)
            elif owed.kind == PARSE and owed.name and statement is not None and statement.proven:
                answers.append(write.PARSE_COMPLETE)
            elif owed is not OWED_SYNC:
                return None
        answers.append(READY[int(self.status)])
        return b"".join(answers)

    def _in_failed_transaction(self, batch: Batch, decision: Decision | None) -> bytes:
        """It failed before a server was found for it, so no server knows of it."""
        is_alone = batch.simple or batch.owed.count(OWED_EXECUTE) == 1
        if (
            decision is not None
            and decision.kind == END
            and is_alone  # else what is in front of it fails, and it is not run
            and batch.ending == AT_READY
        ):
            self.channels.end(committed=False)
            failure, self.failure = self.failure, IN_FAILED_TRANSACTION
            if decision.tag == b"COMMIT" and failure is not IN_FAILED_TRANSACTION:
                # The client does not know yet that there is nothing to commit.
                self.status = STATUS_IDLE
                raise failure
            return self._tag(batch, b"ROLLBACK", STATUS_IDLE)
        if decision is None and all(owed.kind != PARSE for owed in batch.owed):
            answer = self._bookkeeping(batch)
            if answer is not None:
                return answer
        failure, self.failure = self.failure, IN_FAILED_TRANSACTION
        raise failure


def _answers(batch: Batch, rows: list[bytes], tag: bytes, ready: bytes) -> bytes:
    """The answers to all messages of the batch, if each statement of it yields `rows`
    (RowDescription and DataRows; empty for a command) and `tag`."""
    complete = write.command_complete(tag)
    if batch.simple:
        return b"".join(rows) + complete + ready
    description = rows[0] if rows else write.NO_DATA
    answers: list[bytes] = []
    data = batch.input.data
    position = batch.start
    for owed in batch.owed:
        if owed.kind == PARSE:
            answers.append(write.PARSE_COMPLETE)
        elif owed.kind == BIND:
            answers.append(write.BIND_COMPLETE)
        elif owed.kind == CLOSE:
            answers.append(write.CLOSE_COMPLETE)
        elif owed.kind == EXECUTE:
            answers.extend(rows[1:])
            answers.append(complete)
        elif owed.kind == DESCRIBE:
            if data[position + 5] == TARGET_STATEMENT:
                answers.append(write.NO_PARAMETERS)
            answers.append(description)
        else:
            answers.append(ready)
        position += 1 + int.from_bytes(data[int(position) + 1 : int(position) + 5], "big")
    return b"".join(answers)
