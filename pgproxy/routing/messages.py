"""HOT, PURE. What each message of the extended protocol adds to a batch: the decisions of its
statements, the reply that will be owed, and the edit of its frame ("Extended Query" in the manual's
"Message Flow").
"""

from typing import Final, cast, final

from mypy_extensions import i64

from pgproxy.errors import PROTOCOL_VIOLATION, UNDEFINED_PREPARED_STATEMENT, PgError
from pgproxy.frames import write
from pgproxy.frames.codes import TARGET_STATEMENT
from pgproxy.frames.splitter import Splitter
from pgproxy.protocol.inflight import (
    OWED_BIND,
    OWED_CLOSE,
    OWED_DESCRIBE,
    OWED_EXECUTE,
    OWED_QUERY,
    Owed,
)
from pgproxy.protocol.prepared import SERVER_PREFIX, Statement
from pgproxy.protocol.states import BIND, CLOSE, DESCRIBE, EXECUTE, PARSE, QUERY
from pgproxy.routing.batch import Batch
from pgproxy.routing.clientstatements import LOST, ClientStatements, undefined_statement
from pgproxy.routing.decision import NEVER, SHOW_LSN, Decision
from pgproxy.routing.edits import FAILING_BIND, MAKE, SUBSTITUTE, USE, USE_UNNAMED, Edit, bind_of
from pgproxy.routing.naming import decided
from pgproxy.routing.own import LSN_QUESTION
from pgproxy.telemetry.counters import Traffic


@final
class Messages:
    """Each method is of the message that `input` shows. They raise `PgError` FATAL (08P01) for one
    that is none."""

    def __init__(
        self, input: Splitter, statements: ClientStatements, batch: Batch, traffic: Traffic
    ) -> None:
        self._input: Final = input
        self._statements: Final = statements
        self._batch: Final = batch
        self._traffic: Final = traffic

    # --- Parse --------------------------------------------------------------------------------

    def parse(self) -> None:
        self._traffic.parses += 1
        splitter = self._input
        data = splitter.data
        body = splitter.start + 5
        end = splitter.end
        if end > splitter.size:
            self._large_parse()
            return
        batch = self._batch
        statements = self._statements
        name_end = self._string_end(body)
        sql_end = self._string_end(name_end + 1)
        sql = data[name_end + 1 : sql_end]
        fixed = statements.fixed
        decision = statements.router.decide(sql) if fixed is None else fixed
        if decision.kind == SHOW_LSN:
            sql = LSN_QUESTION
            splitter.replace(write.parse(data[body:name_end], sql, data[sql_end + 1 : end]))
            data = splitter.data
            end = splitter.end
            sql_end = name_end + 1 + len(sql)
        if decision.names is None:
            batch.note(decision)
        else:
            for part in statements.parts_of(decision):
                batch.note(part)
            if not decision.names.reserved:
                batch.needs.use(decision.names)  # an EXECUTE returns what it does when parsed
        types = data[sql_end + 1 : end]
        if name_end > body:
            self._named_parse(data[body:name_end], sql, types, decision)
            return
        batch.has_unnamed = True
        before = statements.unnamed
        statement = statements.repeated(sql, types, decision)
        if statement is not None:
            # Most servers have it: its Parse is written only where it is missing.
            at: i64 = len(batch.owed)
            batch.edits.append(Edit(MAKE, splitter.start, end, at, statement, b""))
        else:
            statement = Statement(0, sql, types, decision)
            batch.new_unnamed = statement
        batch.owed.append(Owed(PARSE, statement=statement, previous=before))
        statements.unnamed = statement

    def _named_parse(self, name: bytes, sql: bytes, types: bytes, decision: Decision) -> None:
        splitter = self._input
        batch = self._batch
        statements = self._statements
        if name in statements.in_doubt:
            batch.needs.wait()
        batch.doubting.append(name)
        taken = statements.named.get(name)
        if taken is not None and taken.by_sql:
            batch.needs.add(name, taken, exact=False)
            batch.owed.append(Owed(PARSE, name=name))
            return
        at: i64 = len(batch.owed)
        if taken is not None:
            # Of all that may be wrong with it the server says what comes first: under the name
            # that it has for the statement in the way.
            batch.owed.append(Owed(PARSE, name=name, previous=taken))
            again = write.parse(taken.server_name, sql, types)
            batch.edits.append(Edit(USE, splitter.start, splitter.end, at, taken, again))
            return
        statement = statements.prepare(name, sql, types, decision)
        if name in batch.needs.by_name:
            batch.needs.is_over = True
        batch.owed.append(Owed(PARSE, name=name, statement=statement))
        frame = write.parse(statement.server_name, sql, types)
        batch.edits.append(Edit(MAKE, splitter.start, splitter.end, at, statement, frame))

    def _large_parse(self) -> None:
        # Too large to hold, so also too large to prepare again elsewhere: it passes through as the
        # unnamed statement, if it is that.
        splitter = self._input
        data = splitter.data
        body = splitter.start + 5
        if data[body] != 0:
            raise PgError(
                "54000",
                "a named prepared statement is too large",
                severity="FATAL",
                detail=f"The proxy keeps texts of up to {splitter.text} bytes; "
                "use the unnamed one.",
            )
        batch = self._batch
        statements = self._statements
        decision = statements.router.decide_beginning(data[body + 1 :])
        if statements.fixed is not None:
            decision = statements.fixed
        batch.note(decision)
        batch.note_executed(decision)
        batch.has_unnamed = True
        lost = Statement(LOST, b"", b"", decision)
        statements.unnamed = lost
        batch.new_unnamed = lost
        batch.owed.append(Owed(PARSE, statement=lost))

    # --- Bind ---------------------------------------------------------------------------------

    def bind(self) -> None:
        self._traffic.binds += 1
        splitter = self._input
        batch = self._batch
        data = splitter.data
        start = splitter.start
        portal_end = self._string_end(start + 5)
        name_end = self._string_end(portal_end + 1)
        if name_end == portal_end + 1:
            self._use_unnamed(BIND, OWED_BIND)
            if batch.effects:
                batch.name_settings(name_end)
            return
        statements = self._statements
        name = data[portal_end + 1 : name_end]
        if name in statements.in_doubt:
            batch.needs.wait()
        statement = statements.named.get(name)
        if statement is None:
            self._fail(BIND, undefined_statement(name))
            return
        decision = statements.decision_of(statement)
        if decision.names is not None or statements.portals:
            if not self._bind_names(decision, portal_end):
                return
        else:
            batch.note(decision)
            batch.note_executed(decision)
        if batch.effects:
            batch.name_settings(name_end)
        batch.executed_statement = statement
        statements.bound = name
        if statement.by_sql:
            batch.needs.add(name, statement, exact=True)
            batch.owed.append(OWED_BIND)
            return
        shown = splitter.end if splitter.end < splitter.size else splitter.size
        frame = bind_of(statement.server_name, splitter, portal_end, name_end)
        at: i64 = len(batch.owed)
        batch.owed.append(OWED_BIND)
        batch.edits.append(Edit(USE, start, shown, at, statement, frame))

    def _bind_names(self, decision: Decision, portal_end: i64) -> bool:
        """Bind of a statement that may name others. False: the client gets an error instead."""
        names = decision.names
        batch = self._batch
        self._statements.bind(self._input.data[self._input.start + 5 : portal_end], names)
        for part in self._statements.parts_of(decision):
            batch.note(part)
            batch.note_executed(part)
        if names is None:
            return True
        if names.reserved:
            self._fail(BIND, undefined_statement(names.reserved))
            return False
        batch.needs.use(names)
        return True

    # --- Describe, Execute, Close -------------------------------------------------------------

    def describe(self) -> None:
        splitter = self._input
        batch = self._batch
        statements = self._statements
        start = splitter.start
        if self._target() != TARGET_STATEMENT:
            batch.owed.append(OWED_DESCRIBE)
            if statements.bound is not None:
                statements.described.add(statements.bound)
            return
        name_end = self._string_end(start + 6)
        if name_end == start + 6:
            self._use_unnamed(DESCRIBE, OWED_DESCRIBE)
            return
        name = splitter.data[start + 6 : name_end]
        if name in statements.in_doubt:
            batch.needs.wait()
        statement = statements.named.get(name)
        if statement is None:
            self._fail(DESCRIBE, undefined_statement(name))
            return
        self._describe_names(statements.decision_of(statement))
        statements.described.add(name)
        if statement.by_sql:
            batch.needs.add(name, statement, exact=True)
            batch.owed.append(OWED_DESCRIBE)
            return
        at: i64 = len(batch.owed)
        batch.owed.append(OWED_DESCRIBE)
        frame = write.describe_statement(statement.server_name)
        batch.edits.append(Edit(USE, start, splitter.end, at, statement, frame))

    def _describe_names(self, decision: Decision) -> None:
        """Describe of a statement that may name others."""
        batch = self._batch
        for part in self._statements.parts_of(decision):
            batch.note(part)
        if decision.names is not None and not decision.names.reserved:
            batch.needs.use(decision.names)

    def execute(self) -> None:
        """Execute where there are portals of statements that name others."""
        batch = self._batch
        start = self._input.start + 5
        names = self._statements.portals.get(self._input.data[start : self._string_end(start)])
        owed = OWED_EXECUTE
        if names is not None:
            batch.needs.use(names)
            if names.changes is not None:
                batch.needs.is_over = True
                owed = Owed(EXECUTE, names=names.changes)
        batch.owed.append(owed)

    def close(self) -> None:
        splitter = self._input
        batch = self._batch
        statements = self._statements
        start = splitter.start
        if self._target() != TARGET_STATEMENT:
            batch.owed.append(OWED_CLOSE)
            return
        name = splitter.data[start + 6 : self._string_end(start + 6)]
        if name:
            if name in statements.in_doubt:
                batch.needs.wait()
            batch.doubting.append(name)
        else:
            statements.unnamed = None
        statement = statements.close(name)
        if statement is not None and name in batch.needs.by_name:
            batch.needs.is_over = True
        at: i64 = len(batch.owed)
        # Closing a statement that does not exist is no error either.
        batch.owed.append(Owed(CLOSE, answer=write.CLOSE_COMPLETE, name=name, statement=statement))
        batch.edits.append(Edit(SUBSTITUTE, start, splitter.end, at, None, b""))

    # --- Query, where Sync should stand -------------------------------------------------------

    def query(self) -> bool:
        """PostgreSQL runs it as part of the same transaction. False: the batch must end before it."""
        splitter = self._input
        batch = self._batch
        statements = self._statements
        start = splitter.start + 5
        if splitter.end <= start:
            raise PgError(PROTOCOL_VIOLATION, "invalid string in message", severity="FATAL")
        if splitter.end <= splitter.size:
            decision = statements.router.decide(splitter.data[start : splitter.end - 1])
        else:
            decision = statements.router.decide_beginning(splitter.data[start:])
        if statements.fixed is not None:
            decision = statements.fixed
        names = decision.names
        owed = OWED_QUERY
        if names is not None:
            if batch.owed:
                # What it needs must come where no transaction of the batch can fail it.
                return False
            batch.needs.use(names)
            batch.needs.reserved = names.reserved
            owed = Owed(QUERY, names=names.changes)
        for part in statements.parts_of(decision):
            batch.note(part)
            batch.note_executed(part)
        batch.again = NEVER  # it commits what is in front of it before it says so
        batch.executes = True
        statements.unnamed = None
        batch.complete(owed)
        return True

    # --- of the unnamed statement -------------------------------------------------------------

    def _use_unnamed(self, kind: int, owed: Owed) -> None:
        """Bind or Describe of it."""
        batch = self._batch
        statements = self._statements
        statement = statements.unnamed
        if statement is None or (statement.number == LOST and statement is not batch.new_unnamed):
            self._fail(
                kind,
                PgError(UNDEFINED_PREPARED_STATEMENT, "unnamed prepared statement does not exist"),
            )
            return
        decision = cast(Decision, statement.decision)
        if statement.number != LOST and statements.fixed is None:
            decision = decided(statement, statements.router)
        if decision.names is not None or statements.portals:
            if kind != BIND:
                self._describe_names(decision)
            elif not self._bind_names(decision, self._string_end(self._input.start + 5)):
                return
        else:
            batch.note(decision)
            if kind == BIND:
                batch.note_executed(decision)
        if kind == BIND:
            batch.executed_statement = statement
        if not batch.has_unnamed:
            batch.needs.wait()
        if statement.number > 0:
            self._use_repeated(kind, statement)
        elif statement is not batch.new_unnamed:
            start = self._input.start
            at: i64 = len(batch.owed)
            batch.edits.append(Edit(USE_UNNAMED, start, start, at, statement, b""))
        batch.owed.append(owed)

    def _use_repeated(self, kind: int, statement: Statement) -> None:
        """It is served by one that has a name on the servers."""
        splitter = self._input
        start = splitter.start
        if kind == BIND:
            self._statements.bound = b""
            portal_end = self._string_end(start + 5)
            frame = bind_of(statement.server_name, splitter, portal_end, portal_end + 1)
        else:
            self._statements.described.add(b"")
            frame = write.describe_statement(statement.server_name)
        batch = self._batch
        end = splitter.end if splitter.end < splitter.size else splitter.size
        at: i64 = len(batch.owed)
        batch.edits.append(Edit(USE, start, end, at, statement, frame))

    def _fail(self, kind: int, error: PgError) -> None:
        """An error that only we can see must also be one for the server, or its transaction
        would go on: it gets a message that fails, and the client gets this error for it."""
        splitter = self._input
        batch = self._batch
        batch.has_error = True
        at: i64 = len(batch.owed)
        batch.owed.append(Owed(kind, error=write.error_response(error)))
        start = splitter.start
        shown = splitter.end if splitter.end < splitter.size else splitter.size
        frame = FAILING_BIND
        if kind == BIND:
            # The rest of it may still be on its way, so the frame keeps its length.
            portal_end = self._string_end(start + 5)
            name_end = self._string_end(portal_end + 1)
            frame = bind_of(SERVER_PREFIX, splitter, portal_end, name_end)
        batch.edits.append(Edit(SUBSTITUTE, start, shown, at, None, frame))

    # --- strings ------------------------------------------------------------------------------

    def _target(self) -> i64:
        """What a Describe or Close names: a statement or a portal."""
        splitter = self._input
        if splitter.end < splitter.start + 6:
            raise PgError(PROTOCOL_VIOLATION, "no data left in message", severity="FATAL")
        return splitter.data[splitter.start + 5]

    def _string_end(self, start: i64) -> i64:
        splitter = self._input
        limit = splitter.end if splitter.end < splitter.size else splitter.size
        data = splitter.data
        if start < limit and data[start] == 0:
            return start
        end: i64 = data.find(b"\x00", int(start), int(limit))
        if end < 0:
            raise PgError(PROTOCOL_VIOLATION, "invalid string in message", severity="FATAL")
        return end
