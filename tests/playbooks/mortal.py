"""A server process as the playbooks of failovers need it: it keeps transactions, and dies in the
ways in which PostgreSQL does."""

from collections import deque
from random import Random
from typing import Final

from pgproxy.frames import write
from pgproxy.frames.codes import (
    B_PARAMETER_STATUS,
    STATUS_FAILED,
    STATUS_IDLE,
    STATUS_IN_TRANSACTION,
)
from tests.playbooks.stage import ROW, Transport, error

READY: Final = {
    STATUS_IDLE: write.READY_IDLE,
    STATUS_IN_TRANSACTION: write.READY_IN_TRANSACTION,
    STATUS_FAILED: write.READY_FAILED,
}
# A function that writes here, and of which the router does not know that.
HIDDEN_WRITE: Final = "SELECT abs("
REPORT: Final = write.frame(B_PARAMETER_STATUS, b"search_path\0a\0")


def frames(data: bytes) -> list[bytes]:
    found = []
    while data:
        end = 1 + int.from_bytes(data[1:5], "big")
        found.append(data[:end])
        data = data[end:]
    return found


class Failure(Exception):
    pass


class Truth:
    """What has been committed, and who is the primary."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.primary = "p"
        self.misled: list[str] = []  # what a replica was asked that is no read


class Postgres:
    """One server process. What it commits is at once on all servers, as with a synchronous standby
    that is read from."""

    def __init__(self, truth: "Truth", name: str, transport: Transport) -> None:
        self.truth = truth
        self.name = name
        self.transport = transport
        self.unread = b""
        self.messages: deque[tuple[str, bytes]] = deque()
        self.status = STATUS_IDLE
        self.ignoring = False
        self.pending: list[int] = []
        self.savepoint: int | None = None
        self.prepared: dict[bytes, bytes] = {}
        self.portal = b""
        self.read_only = False  # the transaction
        self.conflict = ""  # what the next read gets that is run here
        self.last_words: bytes | None = None  # it has ended; what is still in its socket

    def read(self) -> None:
        self.unread += self.transport.take()
        while len(self.unread) >= 5:
            end = 1 + int.from_bytes(self.unread[1:5], "big")
            if len(self.unread) < end:
                return
            self.messages.append((chr(self.unread[0]), self.unread[5:end]))
            self.unread = self.unread[end:]

    def answer(self) -> bytes:
        """To the oldest message."""
        kind, body = self.messages.popleft()
        if kind == "S":
            self.ignoring = False
            return self._end_of_implicit() + READY[self.status]
        if self.ignoring or kind in "HX":
            return b""
        if kind == "Q":
            self.prepared.pop(b"", None)
            answer = b""
            try:
                for text in body[:-1].decode().split("; "):
                    answer += self._run(text)
            except Failure as failure:
                return answer + self._fail(failure) + READY[self.status]
            return self._end_of_implicit() + answer + READY[self.status]
        try:
            return self._extended(kind, body)
        except Failure as failure:
            self.ignoring = True
            return self._fail(failure)

    def dies(self, random: Random, words: bytes) -> None:
        """Perhaps in the middle of a message. FATAL 57P01 comes before a commit, or behind the
        whole of it; a process that is just gone may have said any part of its answer."""
        self.read()
        said = b""
        while self.messages and random.random() < 0.5:
            said += self.answer()
        if self.messages and random.random() < 0.5:
            rows = len(self.truth.rows)
            is_query = self.messages[0][0] == "Q"
            parts = frames(self.answer())
            if words and len(self.truth.rows) != rows:
                kept = len(parts) - (is_query and random.random() < 0.5)
            else:
                kept = random.randint(0, len(parts))
            said += b"".join(parts[:kept])
        self.last_words = said + words
        self.messages.clear()

    def _extended(self, kind: str, body: bytes) -> bytes:
        if kind == "P":
            name, text, _ = body.split(b"\0", 2)
            self.prepared.pop(b"", None)
            if name in self.prepared:
                raise Failure("42P05")
            self.prepared[name] = text
            return write.PARSE_COMPLETE
        if kind == "B":
            name = body.split(b"\0", 2)[1]
            if name not in self.prepared:
                raise Failure("26000")
            value = body[len(name) + 2 :]
            self.portal = self.prepared[name]
            if b"$1" in self.portal:
                length = int.from_bytes(value[4:8], "big")
                self.portal = self.portal.replace(b"$1", value[8 : 8 + length])
            return write.BIND_COMPLETE
        if kind == "C":
            self.prepared.pop(body[1:-1], None)
            return write.CLOSE_COMPLETE
        assert kind == "E", kind
        return self._run(self.portal.decode())

    def _run(self, text: str) -> bytes:
        word = text.split(maxsplit=1)[0]
        if word in ("COMMIT", "ROLLBACK") and " TO " not in text:
            return self._end(word, text.endswith("CHAIN"))
        if text == "ROLLBACK TO a":
            if self.savepoint is None:
                raise Failure("3B001")
            del self.pending[self.savepoint :]
            self.status = STATUS_IN_TRANSACTION
            return write.command_complete(b"ROLLBACK")
        if self.status == STATUS_FAILED:
            raise Failure("25P02")
        if self.conflict and word == "SELECT":
            sqlstate, self.conflict = self.conflict, ""
            raise Failure(sqlstate)
        is_replica = self.truth.primary != self.name
        if is_replica and not self.read_only and (word == "INSERT" or "n()" in text):
            self.truth.misled.append(text)
        if word == "INSERT" or text.startswith(HIDDEN_WRITE):
            if is_replica or self.read_only:
                raise Failure("25006")
            self.pending.append(int(text.split("(")[1][:-1]))
            return write.command_complete(b"INSERT 0 1" if word == "INSERT" else b"SELECT 1")
        if word == "BEGIN":
            self.status = STATUS_IN_TRANSACTION
            self.read_only = self.read_only or "READ ONLY" in text
        elif word == "SAVEPOINT":
            if self.status == STATUS_IDLE:
                raise Failure("25P01")
            self.savepoint = len(self.pending)
        elif word in ("DEALLOCATE", "DISCARD"):
            self.prepared.clear()
        elif word == "SET":
            return write.command_complete(b"SET") + REPORT
        elif text == "SELECT 1":
            return ROW
        elif word == "SELECT":
            return write.command_complete(b"SELECT %d" % (len(self.truth.rows) + len(self.pending)))
        elif word in ("fail", "pgproxy"):
            raise Failure("42601")
        return write.command_complete(word.encode())

    def _end(self, word: str, chains: bool) -> bytes:
        if chains and self.status == STATUS_IDLE:
            raise Failure("25P01")
        if self.status == STATUS_FAILED:
            word = "ROLLBACK"
        if word == "COMMIT":
            self.truth.rows += self.pending
        self.pending = []
        self.savepoint = None
        self.status = STATUS_IN_TRANSACTION if chains else STATUS_IDLE
        self.read_only = self.read_only and chains
        return write.command_complete(word.encode())

    def _end_of_implicit(self) -> bytes:
        if self.status == STATUS_IDLE:
            self.truth.rows += self.pending
            self.pending = []
        return b""

    def _fail(self, failure: Failure) -> bytes:
        if self.status == STATUS_IDLE:
            self.pending = []
        else:
            self.status = STATUS_FAILED
        return error("no", str(failure))
