"""PURE. The settings of a session that are the proxy's own: `pgproxy.route`, `pgproxy.trace` and
`pgproxy.min_lsn`.

They behave as PostgreSQL's do: SET holds until the session ends, SET LOCAL until the transaction
does; a rollback, also one to a savepoint, takes back what came after; RESET returns to what the
session began with. Where it has not said a route, the configuration's rules may have one for it.
"""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.errors import INVALID_PARAMETER_VALUE, PgError
from pgproxy.frames import write
from pgproxy.protocol.lsn import format_lsn, parse_lsn
from pgproxy.protocol.settings import parse_bool

ROUTE: Final = "pgproxy.route"
TRACE: Final = "pgproxy.trace"
MIN_LSN: Final = "pgproxy.min_lsn"

# Values of pgproxy.route; the numbers of the two targets are the router's.
AUTO: Final = -1
TO_PRIMARY: Final = 0
TO_REPLICA: Final = 1
# Nobody has said: a rule may.
NOT_SET: Final = -2

ROUTES: Final = {"auto": AUTO, "primary": TO_PRIMARY, "replica": TO_REPLICA}
ROUTE_NAMES: Final = {AUTO: "auto", TO_PRIMARY: "primary", TO_REPLICA: "replica"}

# As of when a replica must be fresh to show pgproxy.min_lsn: not known yet.
NOT_KNOWN: Final = float("inf")

# Values by the name of the setting.
Values = dict[str, int]


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


def parse_own(name: str, value: str) -> int:
    """The number of a value of one of them. Raises `PgError` (22023)."""
    if name == ROUTE:
        return parse_route(value)
    if name == MIN_LSN:
        return parse_min_lsn(value)
    switch = parse_bool(value)
    if switch is None:
        raise PgError(INVALID_PARAMETER_VALUE, f'parameter "{name}" requires a Boolean value')
    return int(switch)


@final
class Session:
    """`route`, `trace` and `min_lsn` are those in force. `initial` is what RESET returns to.
    `shown_as_of`: as of when a replica must be fresh to show `min_lsn`; 0: there is none."""

    def __init__(self, route: int = NOT_SET, *, trace: bool = False, min_lsn: int = 0) -> None:
        self._initial: Values = {ROUTE: route, TRACE: int(trace), MIN_LSN: min_lsn}
        self._values = self._initial.copy()
        self._locals: Values = {}  # by SET LOCAL
        self._before: Values = {}  # `_values` before the open transaction, if it is `touched`
        self._savepoints: list[tuple[bytes, Values, Values]] = []
        self._rule: i64 = AUTO
        self.rule_detail = ""
        self.is_observed = False  # somebody else wants to be told of its statements
        self.touched = False  # set in this transaction, or a savepoint was
        self.broken = False  # since then a statement has failed
        # In force.
        self.route: i64 = AUTO
        self.by_rule = False  # the route is the configuration's
        self.trace = False
        self.min_lsn = 0
        self.shown_as_of = 0.0
        self.watched = False  # somebody is to be told of its statements
        self._apply()

    def ruled(self, route: int, detail: str) -> None:
        """What the configuration's rules say of this session now."""
        self._rule = route
        self.rule_detail = detail
        self._apply()

    def observe(self) -> None:
        """From now on somebody wants to be told of its statements."""
        self.is_observed = True
        self._apply()

    def set(self, name: str, value: str, *, local: bool, in_transaction: bool) -> None:
        """SET [LOCAL], or RESET with an empty value. Raises `PgError` (22023)."""
        number = parse_own(name, value) if value else self._initial[name]
        if local and not in_transaction:
            return  # as PostgreSQL: no effect outside a transaction block
        if in_transaction:
            self._touch()
        if local:
            self._locals[name] = number
        else:
            self._locals.pop(name, None)
            self._values[name] = number
        self._apply()

    def reset_all(self, *, in_transaction: bool) -> None:
        """RESET ALL."""
        if in_transaction:
            self._touch()
        self._locals.clear()
        self._values = self._initial.copy()
        self._apply()

    def savepoint(self, name: bytes) -> None:
        """The open transaction has made one."""
        self._touch()
        self._savepoints.append((name, self._values.copy(), self._locals.copy()))

    def leave_savepoint(self, name: bytes, *, goes_back: bool) -> None:
        """It has released one, or rolled back to it."""
        index = len(self._savepoints) - 1
        while index >= 0 and self._savepoints[index][0] != name:
            index -= 1
        if index < 0:
            return  # the server has refused it
        if goes_back:
            _, values, local = self._savepoints[index]
            self._values, self._locals = values.copy(), local.copy()
            self._apply()
            index += 1  # it stays
        del self._savepoints[index:]

    def end(self, *, committed: bool) -> None:
        """A transaction ends: SET LOCAL is over, and a rolled-back SET did not happen."""
        if not self.touched:
            return
        if not committed:
            self._values = self._before
        self._locals.clear()
        self._savepoints.clear()
        self.touched = False
        self._apply()

    def _touch(self) -> None:
        if not self.touched:
            self.touched = True
            self.broken = False
            self._before = self._values.copy()

    def _apply(self) -> None:
        route = self._in_force(ROUTE)
        self.by_rule = route == NOT_SET
        self.route = self._rule if self.by_rule else route
        self.trace = self._in_force(TRACE) > 0
        self.watched = self.trace or self.is_observed
        min_lsn = self._in_force(MIN_LSN)
        if min_lsn != self.min_lsn:
            self.min_lsn = min_lsn
            self.shown_as_of = NOT_KNOWN if min_lsn > 0 else 0.0

    def _in_force(self, name: str) -> int:
        return self._locals.get(name, self._values[name])

    def show(self, name: str) -> list[bytes]:
        """The answer to SHOW of one of them: RowDescription, DataRow."""
        value = ROUTE_NAMES[int(self.route)]
        if name == TRACE:
            value = "on" if self.trace else "off"
        elif name == MIN_LSN:
            value = format_lsn(self.min_lsn)
        return [write.row_description([name.encode()]), write.data_row([value.encode()])]

    def show_last_route(self, fields: list[str]) -> list[bytes]:
        """The answer to SHOW pgproxy.last_route; `fields` is empty before the first statement."""
        description = write.row_description([b"target", b"reason", b"backend", b"detail"])
        if not fields:
            return [description]
        row: list[bytes | None] = [field.encode() for field in fields]
        return [description, write.data_row(row)]
