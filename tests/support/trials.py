"""How a statement of the corpus is tried on a real server: run, looked at, undone."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final, Self

from psycopg import pq
from psycopg.pq.abc import PGresult

from tests.support.corpus import DEFAULT_PATH, Entry

_LIMIT: Final = "20s"  # of one statement: what hangs fails, and does not hold up the others


@dataclass(frozen=True)
class Answer:
    """What a server made of a statement: `state` is its SQLSTATE, "" where it succeeded."""

    state: str = ""
    message: str = ""
    columns: tuple[tuple[bytes, ...], ...] = ()  # of each result
    rows: tuple[tuple[object, ...], ...] = ()  # of each result, in order
    tags: tuple[bytes, ...] = ()
    wrote: bool = False

    def is_like(self, other: "Answer") -> bool:
        """The same success or failure, and columns of the same names."""
        return self.state == other.state and self.columns == other.columns

    def equals(self, other: "Answer") -> bool:
        """The same rows too; their order only says how they were found."""
        if not self.is_like(other) or self.tags != other.tags:
            return False
        return list(map(Counter, self.rows)) == list(map(Counter, other.rows))


class Trial:
    """A connection on which statements are tried, one after the other."""

    def __init__(self, dsn: str) -> None:
        self._connection: Final = pq.PGconn.connect(
            f"{dsn}?options=-c%20statement_timeout%3D{_LIMIT}".encode()
        )
        if self._connection.status != pq.ConnStatus.OK:
            raise OSError(self._connection.error_message)
        self._connection.notice_handler = lambda _result: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.finish()

    def undone(self, entry: Entry) -> Answer:
        """What it does in a transaction of its own, which is rolled back, and whether it wrote:
        whether the transaction has a number afterwards."""
        begin = ["BEGIN", *_settings(entry, "SET LOCAL")]
        if entry.error:
            begin.append("SAVEPOINT before")
        self._do("; ".join(begin))
        answer = self._answer(entry)
        if entry.error and self._connection.transaction_status == pq.TransactionStatus.INERROR:
            self._do("ROLLBACK TO before")
        answer = replace(answer, wrote=self._has_written())
        self._do("ROLLBACK")
        self._do("DISCARD ALL")
        return answer

    def routed(self, entry: Entry) -> tuple[Answer, str, str]:
        """What it does by itself through a proxy; where that sent it, and for which reason. It is
        not undone, but for what it leaves in the session."""
        for setting in _settings(entry, "SET"):
            self._do(setting)
        answer = self._answer(entry)
        shown = self._connection.exec_(b"SHOW pgproxy.last_route")
        target, reason = ((shown.get_value(0, column) or b"").decode() for column in range(2))
        self._do("DISCARD ALL")
        return answer, target, reason

    def _answer(self, entry: Entry) -> Answer:
        connection = self._connection
        if entry.parameters:
            values = [None if value == "NULL" else value.encode() for value in entry.parameters]
            connection.send_query_params(entry.sql.encode(), values)
        else:
            connection.send_query(entry.sql.encode())
        columns: list[tuple[bytes, ...]] = []
        rows: list[tuple[object, ...]] = []
        tags: list[bytes] = []
        failure: PGresult | None = None
        while (result := connection.get_result()) is not None:
            if result.status == pq.ExecStatus.COPY_OUT:
                rows.append(tuple(self._copied()))
            elif result.status == pq.ExecStatus.COPY_IN:
                connection.put_copy_end()
            elif result.status == pq.ExecStatus.FATAL_ERROR:
                failure = result
            else:
                numbers = range(result.nfields)
                columns.append(tuple(result.fname(number) or b"" for number in numbers))
                rows.append(
                    tuple(
                        tuple(result.get_value(row, number) for number in numbers)
                        for row in range(result.ntuples)
                    )
                )
                tags.append(result.command_status or b"")
        if failure is None:
            return Answer("", "", tuple(columns), tuple(rows), tuple(tags))
        state = failure.error_field(pq.DiagnosticField.SQLSTATE) or b"08006"
        message = failure.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"the connection broke"
        return Answer(state.decode(), message.decode())

    def _copied(self) -> list[bytes]:
        lines: list[bytes] = []
        while True:
            size, data = self._connection.get_copy_data(0)
            if size < 0:
                return lines
            lines.append(bytes(data))

    def _has_written(self) -> bool:
        result = self._connection.exec_(b"SELECT pg_catalog.pg_current_xact_id_if_assigned()")
        return result.status == pq.ExecStatus.TUPLES_OK and result.get_value(0, 0) is not None

    def _do(self, sql: str) -> None:
        result = self._connection.exec_(sql.encode())
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise OSError(f"{sql}: {result.get_error_message()}")


def _settings(entry: Entry, verb: str) -> list[str]:
    found = [f"{verb} {name} TO '{value}'" for name, value in entry.settings]
    if entry.path != DEFAULT_PATH:
        found.append(f"{verb} search_path TO {path_of(entry)}")
    return found


def path_of(entry: Entry) -> str:
    """The search_path as SET takes it."""
    return ", ".join(map(_quoted, entry.path))


def _quoted(schema: str) -> str:
    return '"' + schema.replace('"', '""') + '"'
