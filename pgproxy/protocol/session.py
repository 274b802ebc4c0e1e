"""PURE. What a session of the proxy itself knows and answers: its own settings, the last route."""

from typing import Final, final

from pgproxy.errors import INVALID_PARAMETER_VALUE, PgError
from pgproxy.frames import write
from pgproxy.protocol.lsn import format_lsn, parse_lsn

# Values of pgproxy.route; the numbers of the two targets are the router's.
AUTO: Final = -1
TO_PRIMARY: Final = 0
TO_REPLICA: Final = 1

ROUTES: Final = {"auto": AUTO, "primary": TO_PRIMARY, "replica": TO_REPLICA}
ROUTE_NAMES: Final = {AUTO: "auto", TO_PRIMARY: "primary", TO_REPLICA: "replica"}

# As of when a replica must be fresh to show pgproxy.min_lsn: not known yet.
NOT_KNOWN: Final = float("inf")


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


def parse_min_lsn(value: str) -> int:
    """The position that a value of pgproxy.min_lsn is. Raises `PgError` (22023)."""
    try:
        return parse_lsn(value)
    except ValueError:
        raise PgError(
            INVALID_PARAMETER_VALUE,
            f'invalid value for parameter "pgproxy.min_lsn": "{value}"',
            hint="Give what SHOW pgproxy.lsn or pg_current_wal_insert_lsn() gave, such as "
            "0/3000060; 0/0 is none.",
        ) from None


@final
class OwnSetting:
    """One of the proxy's own settings in one session. `value` is in force, which SET LOCAL changes
    until the transaction ends; `initial` is what RESET returns to."""

    def __init__(self, value: int) -> None:
        self.initial = value
        self.value = value
        self._outer = value  # what a SET LOCAL hides
        self._is_local = False
        self._is_changed = False  # in this transaction
        self._before = value  # the first such SET

    def set(self, value: int, *, local: bool, in_transaction: bool) -> None:
        if in_transaction and not self._is_changed:
            self._is_changed = True
            self._before = self.value
        if local:
            if not in_transaction:
                return  # as PostgreSQL: no effect outside a transaction block
            if not self._is_local:
                self._outer = self.value
            self._is_local = True
            self.value = value
            return
        self._is_local = False
        self.value = value

    def end(self, *, committed: bool) -> None:
        """A transaction ends: SET LOCAL is over, and a rolled-back SET did not happen."""
        if self._is_local:
            self._is_local = False
            self.value = self._outer
        if self._is_changed and not committed:
            self.value = self._before
        self._is_changed = False


@final
class Session:
    """`shown_as_of`: as of when a replica must be fresh to show `min_lsn`; 0: there is none."""

    def __init__(self, route: int = AUTO, min_lsn: int = 0) -> None:
        self.route = OwnSetting(route)
        self.min_lsn = OwnSetting(min_lsn)
        self.shown_as_of = 0.0
        self.touched = False  # one was set in this transaction
        self.broken = False  # since then a statement has failed
        self._look_at_min_lsn()

    def set_route(self, value: str, *, local: bool, in_transaction: bool) -> None:
        """SET [LOCAL] pgproxy.route, or RESET with an empty value. Raises `PgError` (22023)."""
        number = parse_route(value) if value else self.route.initial
        self._touch(in_transaction)
        self.route.set(number, local=local, in_transaction=in_transaction)

    def set_min_lsn(self, value: str, *, local: bool, in_transaction: bool) -> None:
        """The same for pgproxy.min_lsn."""
        number = parse_min_lsn(value) if value else self.min_lsn.initial
        self._touch(in_transaction)
        self.min_lsn.set(number, local=local, in_transaction=in_transaction)
        self._look_at_min_lsn()

    def end(self, *, committed: bool) -> None:
        """A transaction ends."""
        self.route.end(committed=committed)
        self.min_lsn.end(committed=committed)
        self.touched = False
        self._look_at_min_lsn()

    def show_route(self) -> list[bytes]:
        """The answer to SHOW pgproxy.route: RowDescription, DataRow."""
        return _one_value(b"pgproxy.route", ROUTE_NAMES[self.route.value])

    def show_min_lsn(self) -> list[bytes]:
        """The answer to SHOW pgproxy.min_lsn."""
        return _one_value(b"pgproxy.min_lsn", format_lsn(self.min_lsn.value))

    def show_last_route(self, fields: list[str]) -> list[bytes]:
        """The answer to SHOW pgproxy.last_route; `fields` is empty before the first statement."""
        description = write.row_description([b"target", b"reason", b"backend", b"detail"])
        if not fields:
            return [description]
        row: list[bytes | None] = [field.encode() for field in fields]
        return [description, write.data_row(row)]

    def _touch(self, in_transaction: bool) -> None:
        if in_transaction and not self.touched:
            self.touched = True
            self.broken = False

    def _look_at_min_lsn(self) -> None:
        self.shown_as_of = NOT_KNOWN if self.min_lsn.value > 0 else 0.0


def _one_value(name: bytes, value: str) -> list[bytes]:
    return [write.row_description([name]), write.data_row([value.encode()])]
