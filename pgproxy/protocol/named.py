"""PURE. Prepared statements that SQL names: PREPARE, EXECUTE, DEALLOCATE, DISCARD ALL.

Their texts reach the server as the client wrote them, so there the name is the client's own. Many
clients share a server connection: before such a text its names are brought in line there
(protocol/leadin.py), each with what the client has under it. Names of SQL and of the protocol are
one space.

PREPARE and DEALLOCATE are not undone by a rollback; of several statements in one text those that
ran before an error stay. So what a text does to names is noted when its CommandCompletes come.
"""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.protocol.prepared import SERVER_PREFIX, Statement

PREPARES: Final = 1
EXECUTES: Final = 2  # also EXPLAIN EXECUTE and CREATE TABLE … AS EXECUTE
DEALLOCATES: Final = 3
DEALLOCATES_ALL: Final = 4  # and DISCARD ALL

# A statement that a server has under a client's name only so that there is one.
STAND_IN: Final = Statement(-2, b"", b"", None)


@final
class NameUse:
    """One statement of a text that uses a name. Immutable."""

    def __init__(
        self,
        kind: int,
        name: bytes = b"",
        *,
        decision: object = None,
        runs: bool = True,
        index: int = 0,
        sql: bytes = b"",
    ) -> None:
        self.kind: i64 = kind
        self.name = name
        self.decision = decision  # PREPARES: the router's, of what is prepared
        self.runs = runs  # EXECUTES: not so for EXPLAIN
        self.index: i64 = index  # of the statement in its text
        self.sql = sql  # PREPARES: the statement's own text

    def placed(self, index: int, name: bytes, sql: bytes) -> "NameUse":
        """The same as a part of a text."""
        return NameUse(
            int(self.kind),
            name,
            decision=self.decision,
            runs=self.runs,
            index=index,
            sql=sql if self.kind == PREPARES else b"",
        )

    def __repr__(self) -> str:
        return f"<NameUse {self.kind} {self.name!r}>"


@final
class Names:
    """What one text does with names, in its order. `reads` is the router's decision for it if all
    that it executes only reads. Immutable."""

    def __init__(self, uses: tuple[NameUse, ...], reads: object) -> None:
        self.uses = uses
        self.reads = reads
        changes = tuple([use for use in uses if use.kind != EXECUTES])
        self.changes: tuple[NameUse, ...] | None = changes or None
        reserved = [use.name for use in uses if use.name.startswith(SERVER_PREFIX)]
        # A name of ours: no client's text may touch what a server has under it.
        self.reserved = reserved[0] if reserved else b""


@final
class Need:
    """What a server must have under a client's name before a message. Immutable."""

    def __init__(self, name: bytes, statement: Statement | None, *, exact: bool) -> None:
        self.name = name
        self.statement = statement  # None: nothing
        self.exact = exact  # else any statement does: it is only in the way, or goes

    def __repr__(self) -> str:
        return f"<Need {self.name!r} {self.statement} exact={self.exact}>"


def add_need(needs: dict[bytes, Need], need: Need) -> None:
    """What is needed first decides; what follows finds what the server made of it."""
    before = needs.get(need.name)
    if before is None or (need.exact and not before.exact and before.statement is need.statement):
        needs[need.name] = need


def add_needs(
    needs: dict[bytes, Need], uses: tuple[NameUse, ...], statements: dict[bytes, Statement]
) -> None:
    """What a text needs whose client has these statements."""
    for use in uses:
        if use.kind == DEALLOCATES_ALL:
            return
        add_need(needs, Need(use.name, statements.get(use.name), exact=use.kind == EXECUTES))
