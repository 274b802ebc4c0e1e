"""HOT, PURE. Who may run: `limits.max_concurrent` and `limits.max_concurrent_per_backend`.

A *seat* is the right of one server connection to run a statement or a transaction. Whoever is to run
has the connection first and its seat then, so that nobody who has a seat waits for anything of the
proxy's. Seats are given to

1. those who are urgent (their transaction has begun elsewhere, they hold locks), in their order;
2. the tenants, each (database, user) one, in fair shares of the time that seats are held; within a
   tenant first come, first served. Whose backend is full stands in nobody's way.

The shares are those of deficit round robin (M. Shreedhar and G. Varghese, "Efficient Fair Queueing
Using Deficit Round Robin", SIGCOMM 1995): tenants take turns, and one whose credit is used up is
passed over until the rounds have given it new. A round gives what the first of them needs to be
served, so nobody has a long burst. The cost of a seat is known at its end only: it is charged as what
the tenant's last ones have taken, and corrected then. What a tenant may owe is bounded, as one
forgotten transaction must not shut it out; when nobody waits any more all debts are forgotten.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, final

from mypy_extensions import i64, mypyc_attr

from pgproxy.servers.backend import Backend
from pgproxy.servers.limits import Limit

# Seconds that a tenant may owe at most.
DEEPEST_DEBT: Final = 5.0
# Seconds that a tenant's first seats are taken to cost, and the part of one in the average.
FIRST_COST: Final = 0.005
ONE_SEAT: Final = 1 / 8
# A credit above it is none owed, whatever its last digits are.
NOTHING_OWED: Final = -1e-9

NEVER: Final = float("inf")

# What a seat is.
STANDING: Final = 0
IN_LINE: Final = 1
SEATED: Final = 2

NOT_CHARGED: Final = -1.0


@final
class Tenant:
    """One (database, user): `weight` is its share, relative to the others'."""

    def __init__(self, database: str, user: str, weight: float = 1.0) -> None:
        self.database = database
        self.user = user
        self.weight = weight
        self.seated: i64 = 0
        self.waiting: i64 = 0  # in its lines, the urgent ones not counted
        self.credit = 0.0  # seconds
        self.cost = FIRST_COST  # of a seat, a moving average
        self.lines: dict[Backend, deque[Seat]] = {}  # without empty ones
        self.period: i64 = 0  # in which its credit counts

    def first(self) -> "Seat | None":
        """The one that has waited longest of those that there is room for."""
        found: Seat | None = None
        for backend, line in self.lines.items():
            running = backend.running
            if running.used < running.cap:
                seat = line[0]
                if found is None or seat.number < found.number:
                    found = seat
        return found

    def __repr__(self) -> str:
        return f"<Tenant {self.database}/{self.user} seated={self.seated} waiting={self.waiting}>"


@mypyc_attr(allow_interpreted_subclasses=True)
class Seat:
    """Of one server connection, in whatever state it is."""

    def __init__(self, backend: Backend, tenant: Tenant) -> None:
        self.backend = backend
        self.tenant = tenant
        self.state: i64 = STANDING
        self.is_urgent = False
        self.number: i64 = 0  # of its arrival
        self.since = 0.0  # when it was given
        self.charged = NOT_CHARGED  # nobody else wanted it

    def granted(self) -> None:
        """It is this one's turn."""
        raise NotImplementedError


@final
class Limiter:
    """Calls `granted` of seats, one after the other and never one within another. The caps, that of
    `total` and each `Backend.running`'s, may change at any time; `serve` is to follow."""

    def __init__(self, max_concurrent: int) -> None:
        self.total = Limit(("limits", "max_concurrent"), max_concurrent)
        self.waiting: i64 = 0
        self._urgent: deque[Seat] = deque()
        self._ring: deque[Tenant] = deque()  # tenants with lines
        self._arrivals: i64 = 0
        self._period: i64 = 1
        self._is_settled = True  # there is room for nobody who waits
        self._is_serving = False
        self.on_short: Callable[[Backend], None] | None = None  # told where somebody has to wait

    def has_room(self, backend: Backend) -> bool:
        return self.total.used < self.total.cap and backend.running.used < backend.running.cap

    # --- taking -------------------------------------------------------------------------------

    def take(self, seat: Seat, now: float) -> bool:
        """Gives the seat if there is room and nobody is before it; else: `wait`."""
        if not self.has_room(seat.backend) or not (self._is_settled or self.waiting == 0):
            return False
        seat.charged = NOT_CHARGED
        self._give(seat, now)
        return True

    def wait(self, seat: Seat, *, urgent: bool = False) -> None:
        assert seat.state == STANDING, seat.state
        seat.state = IN_LINE
        seat.is_urgent = urgent
        self._arrivals += 1
        seat.number = self._arrivals
        self.waiting += 1
        seat.backend.in_line += 1
        if urgent:
            self._urgent.append(seat)
        else:
            self._line_up(seat)
        if self.on_short is not None:
            self.on_short(seat.backend)

    def _line_up(self, seat: Seat) -> None:
        tenant = seat.tenant
        if tenant.waiting == 0:
            self._ring.append(tenant)
            # What was not used while it did not wait is not saved up.
            if tenant.period != self._period or tenant.credit > 0:
                tenant.credit = 0.0
            tenant.period = self._period
        tenant.waiting += 1
        line = tenant.lines.get(seat.backend)
        if line is None:
            line = tenant.lines[seat.backend] = deque()
        line.append(seat)

    def cancel(self, seat: Seat) -> None:
        """It does not wait any more."""
        assert seat.state == IN_LINE, seat.state
        if seat.is_urgent:
            self._urgent.remove(seat)
        elif self._leaves_line(seat):
            self._ring.remove(seat.tenant)
        self._left(seat)

    # --- giving back --------------------------------------------------------------------------

    def leave(self, seat: Seat, now: float) -> None:
        """The seat is free. `serve` is to follow."""
        assert seat.state == SEATED, seat.state
        seat.state = STANDING
        self._is_settled = False
        if not seat.backend.is_away:
            self.total.used -= 1
        seat.backend.running.used -= 1
        tenant = seat.tenant
        tenant.seated -= 1
        seconds = now - seat.since
        tenant.cost += (seconds - tenant.cost) * ONE_SEAT
        if seat.charged != NOT_CHARGED:
            tenant.credit = max(tenant.credit + seat.charged - seconds, -DEEPEST_DEBT)

    def serve(self, now: float) -> None:
        """Gives seats to those whose turn it is, as long as there is room for them."""
        if self._is_serving:
            return  # whoever does goes on
        self._is_serving = True
        try:
            self._is_settled = False
            while self.waiting > 0 and self.total.used < self.total.cap:
                seat = self._next()
                if seat is None:
                    break
                self._left(seat)
                tenant = seat.tenant
                seat.charged = min(tenant.cost, DEEPEST_DEBT)
                tenant.credit = max(tenant.credit - seat.charged, -DEEPEST_DEBT)
                self._give(seat, now)
                seat.granted()
            self._is_settled = True
        finally:
            self._is_serving = False

    def note_away(self, backend: Backend, is_away: bool) -> None:
        """The seats on a backend that is not there do not count in the total, or a server that hangs
        would keep the others from working. `serve` is to follow."""
        if backend.is_away == is_away:
            return
        backend.is_away = is_away
        used = backend.running.used
        self.total.used += -used if is_away else used
        self._is_settled = False

    # --- inside -------------------------------------------------------------------------------

    def _give(self, seat: Seat, now: float) -> None:
        seat.state = SEATED
        seat.since = now
        seat.tenant.seated += 1
        if not seat.backend.is_away:
            self.total.used += 1
        seat.backend.running.used += 1

    def _next(self) -> Seat | None:
        for seat in self._urgent:
            running = seat.backend.running
            if running.used < running.cap:
                self._urgent.remove(seat)
                return seat
        ring = self._ring
        while True:
            rounds = NEVER
            left: i64 = len(ring)
            while left > 0:
                left -= 1
                tenant = ring.popleft()
                first = tenant.first()
                if first is not None and tenant.credit >= NOTHING_OWED:
                    if not self._leaves_line(first):
                        ring.append(tenant)
                    return first
                ring.append(tenant)
                if first is not None:
                    rounds = min(rounds, -tenant.credit / tenant.weight)
            if rounds == NEVER:
                return None
            for tenant in ring:
                if tenant.first() is not None:
                    tenant.credit += rounds * tenant.weight

    def _leaves_line(self, seat: Seat) -> bool:
        """Takes it out of its tenant's line. True: that was the tenant's last one."""
        tenant = seat.tenant
        line = tenant.lines[seat.backend]
        line.remove(seat)
        if not line:
            del tenant.lines[seat.backend]
        tenant.waiting -= 1
        return tenant.waiting == 0

    def _left(self, seat: Seat) -> None:
        seat.state = STANDING
        seat.backend.in_line -= 1
        self.waiting -= 1
        if self.waiting == 0:
            self._period += 1

    def check(self) -> None:
        """Asserts the invariants (for tests and debugging)."""
        in_lines = 0
        for tenant in self._ring:
            assert tenant.waiting > 0, "a tenant without a line takes turns"
            assert tenant.waiting == sum(len(line) for line in tenant.lines.values())
            assert all(tenant.lines.values()), "an empty line is kept"
            in_lines += int(tenant.waiting)
            assert tenant.credit >= -DEEPEST_DEBT
        assert len(set(self._ring)) == len(self._ring)
        assert self.waiting == in_lines + len(self._urgent)
        if self._is_settled and self.total.has_room:
            assert not any(seat.backend.running.has_room for seat in self._urgent)
            assert all(tenant.first() is None for tenant in self._ring), "waits beside a free seat"

    def __repr__(self) -> str:
        return f"<Limiter {self.total.used}/{self.total.cap} waiting={self.waiting}>"
