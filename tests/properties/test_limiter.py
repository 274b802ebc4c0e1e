"""Properties of the limiter: whatever happens in whatever order, no cap is exceeded, nobody waits
beside a seat that would do, and no seat is lost."""

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pgproxy.servers.backend import Backend
from pgproxy.servers.limiter import IN_LINE, SEATED, STANDING, Limiter, Seat, Tenant
from pgproxy.servers.limits import NO_CAP

caps = st.sampled_from([1, 2, 3, NO_CAP])


class Chair(Seat):
    """Its owner takes one step with it as soon as it has it."""

    def __init__(self, machine: "LimiterMachine", backend: Backend, tenant: Tenant) -> None:
        super().__init__(backend, tenant)
        self.machine: Final = machine
        self.then = ""

    def granted(self) -> None:
        machine = self.machine
        assert not machine.is_granting, "one within another"
        machine.is_granting = True
        assert self.backend.running.used <= self.backend.running.cap
        assert machine.limiter.total.used <= machine.limiter.total.cap
        if self.then == "leave":
            machine.limiter.leave(self, machine.now)
            machine.limiter.serve(machine.now)
        elif self.then == "ask":
            machine.ask(self.tenant, self.backend, urgent=False, then="")
        machine.is_granting = False


class LimiterMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.chairs: list[Chair] = []
        self.is_granting = False

    @initialize(total=caps, each=caps)
    def begin(self, total: int, each: int) -> None:
        self.limiter = Limiter(0)
        self.limiter.total.cap = total
        self.backends = [Backend(name, "h", 1, 1.0) for name in "ab"]
        for backend in self.backends:
            backend.running.cap = each
        self.tenants = [Tenant("d", name, weight) for name, weight in (("a", 1), ("b", 2))]

    def ask(self, tenant: Tenant, backend: Backend, *, urgent: bool, then: str) -> None:
        chair = Chair(self, backend, tenant)
        chair.then = then
        self.chairs.append(chair)
        if not self.limiter.take(chair, self.now):
            self.limiter.wait(chair, urgent=urgent)

    def at(self, state: int) -> list[Chair]:
        return [chair for chair in self.chairs if chair.state == state]

    @rule(
        who=st.integers(0, 1),
        where=st.integers(0, 1),
        urgent=st.booleans(),
        then=st.sampled_from(["", "leave", "ask"]),
    )
    def arrive(self, who: int, where: int, urgent: bool, then: str) -> None:
        self.ask(self.tenants[who], self.backends[where], urgent=urgent, then=then)

    @precondition(lambda self: self.at(IN_LINE))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.limiter.cancel(data.draw(st.sampled_from(self.at(IN_LINE))))

    @precondition(lambda self: self.at(SEATED))
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 0.01, 1.0, 3600.0]))
    def leave(self, data: st.DataObject, seconds: float) -> None:
        self.now += seconds
        chair = data.draw(st.sampled_from(self.at(SEATED)))
        self.limiter.leave(chair, self.now)
        self.limiter.serve(self.now)

    @rule(cap=caps, which=st.integers(0, 2))
    def change(self, cap: int, which: int) -> None:
        limits = [self.limiter.total, *[backend.running for backend in self.backends]]
        limits[which].cap = cap
        self.limiter.serve(self.now)

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "limiter"):
            return
        self.limiter.check()
        seated = self.at(SEATED)
        assert self.limiter.total.used == len(seated)
        assert self.limiter.waiting == len(self.at(IN_LINE))
        for backend in self.backends:
            assert backend.running.used == sum(chair.backend is backend for chair in seated)
        for tenant in self.tenants:
            assert tenant.seated == sum(chair.tenant is tenant for chair in seated)

    def teardown(self) -> None:
        """Whatever the state is, all are served."""
        if not hasattr(self, "limiter"):
            return
        for limit in [self.limiter.total, *[backend.running for backend in self.backends]]:
            limit.cap = max(int(limit.cap), 1)
        self.limiter.serve(self.now)
        while self.at(SEATED):
            self.now += 0.01
            self.limiter.leave(self.at(SEATED)[0], self.now)
            self.limiter.serve(self.now)
        assert all(chair.state == STANDING for chair in self.chairs), "one was never served"
        self.books_agree()


LimiterMachine.TestCase.settings = settings(stateful_step_count=60)
TestLimiter = LimiterMachine.TestCase
