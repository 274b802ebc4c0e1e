"""PURE. What a session of the proxy itself knows and answers: `pgproxy.route`, the last route."""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.errors import INVALID_PARAMETER_VALUE, PgError
from pgproxy.frames import write

# Values of pgproxy.route; the numbers of the two targets are the router's.
AUTO: Final = -1
TO_PRIMARY: Final = 0
TO_REPLICA: Final = 1

ROUTES: Final = {"auto": AUTO, "primary": TO_PRIMARY, "replica": TO_REPLICA}
ROUTE_NAMES: Final = {AUTO: "auto", TO_PRIMARY: "primary", TO_REPLICA: "replica"}


def parse_route(value: str) -> int:
    """The number of a value of pgproxy.route. Raises `PgError` (22023)."""
    number = ROUTES.get(value)
    if number is None:
        raise PgError(
            INVALID_PARAMETER_VALUE,
            f'invalid value for parameter "pgproxy.route": "{value}"',
            hint="Available values: auto, primary, replica.",
        )
    return number


@final
class Session:
    """`route` in force, which SET LOCAL changes until the transaction ends; `initial` is what
    RESET returns to."""

    def __init__(self, route: int = AUTO) -> None:
        self.initial: i64 = route
        self.route: i64 = route
        self._outer: i64 = route  # what a SET LOCAL hides
        self.is_local = False
        self.touched = False  # set in this transaction
        self.broken = False  # since then a statement has failed
        self._before: i64 = route  # the first such SET

    def set_route(self, value: str, *, local: bool, in_transaction: bool) -> None:
        """SET [LOCAL] pgproxy.route, or RESET with an empty value. Raises `PgError` (22023)."""
        number = parse_route(value) if value else int(self.initial)
        if in_transaction and not self.touched:
            self.touched = True
            self.broken = False
            self._before = self.route
        if local:
            if not in_transaction:
                return  # as PostgreSQL: no effect outside a transaction block
            if not self.is_local:
                self._outer = self.route
            self.is_local = True
            self.route = number
            return
        self.is_local = False
        self.route = number

    def end(self, *, committed: bool) -> None:
        """A transaction ends: SET LOCAL is over, and a rolled-back SET did not happen."""
        if self.is_local:
            self.is_local = False
            self.route = self._outer
        if self.touched and not committed:
            self.route = self._before
        self.touched = False

    def show_route(self) -> list[bytes]:
        """The answer to SHOW pgproxy.route: RowDescription, DataRow."""
        return [
            write.row_description([b"pgproxy.route"]),
            write.data_row([ROUTE_NAMES[int(self.route)].encode()]),
        ]

    def show_last_route(self, fields: list[str]) -> list[bytes]:
        """The answer to SHOW pgproxy.last_route; `fields` is empty before the first statement."""
        description = write.row_description([b"target", b"reason", b"backend", b"detail"])
        if not fields:
            return [description]
        row: list[bytes | None] = [field.encode() for field in fields]
        return [description, write.data_row(row)]
