"""What counts against the caps of all workers."""

import asyncio
from typing import Any

from pgproxy.servers.backend import Backend
from pgproxy.servers.limiter import Limiter, Seat, Tenant
from pgproxy.servers.limits import Limit
from pgproxy.workers.claims import Claims
from pgproxy.workers.sources import ClientQuotas, SeatQuotas

TOTAL = ("limits", "max_concurrent")
OF_A = ("limits", "max_concurrent_per_backend", "a")


class Chair(Seat):
    served = False

    def granted(self) -> None:
        self.served = True


class Stage:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.claims = Claims(self.sent.append)

    def asked(self) -> dict[tuple[str, ...], int]:
        found = {tuple(word["key"]): word["want"] for word in self.sent}
        self.sent.clear()
        return found


def test_a_seat_waits_for_parts_of_both_limits() -> None:
    stage = Stage()
    limiter = Limiter(5)
    quotas = SeatQuotas(stage.claims, limiter)
    backend = Backend("a", "h", 1, 1.0, max_concurrent=3)
    quotas.begins(backend)
    chair = Chair(backend, Tenant("d", "u"))
    assert not limiter.take(chair, 0.0)
    limiter.wait(chair)
    assert stage.asked() == {TOTAL: 1, OF_A: 1}
    stage.claims.order(TOTAL, "grant", 1)
    assert not chair.served
    stage.claims.order(OF_A, "grant", 1)
    assert chair.served
    # Another of the same name goes on with what there is, less what is still at work.
    other = Backend("a", "h", 2, 1.0, max_concurrent=3)
    quotas.begins(other)
    assert (other.running.cap, other.running.whole) == (0, 3)
    stage.claims.order(OF_A, "grant", 1)
    assert other.running.cap == 1
    limiter.leave(chair, 1.0)
    stage.claims.order(OF_A, "recall", 0)
    assert [word["given"] for word in stage.sent] == [2]


def test_a_server_that_was_replaced_takes_nothing_from_the_other_one() -> None:
    """Log-ins there had begun, and have something to ask."""
    stage = Stage()
    limiter = Limiter(9)
    quotas = SeatQuotas(stage.claims, limiter)
    old, new = (Backend("a", "h", port, 1.0, max_concurrent=9) for port in (1, 2))
    tenant = Tenant("d", "u")
    quotas.begins(old)
    stage.claims.order(TOTAL, "grant", 9)
    waits, comes, late = (Chair(old, tenant) for _ in range(3))
    limiter.wait(waits)
    quotas.begins(new)
    limiter.serve(1.0)
    assert waits.served
    assert limiter.take(comes, 1.0)
    chairs = [Chair(new, tenant) for _ in range(3)]
    for chair in chairs[:2]:
        limiter.wait(chair)
    stage.claims.order(OF_A, "grant", 2)
    assert chairs[1].served
    limiter.wait(late)
    limiter.wait(chairs[2])
    stage.claims.order(OF_A, "grant", 1)
    assert chairs[2].served
    assert new.running.cap == 3


def test_nobody_has_a_seat_before_it_waits() -> None:
    """It comes in the moment in which a part is given back that its server's being away has freed."""
    stage = Stage()
    limiter = Limiter(9)
    SeatQuotas(stage.claims, limiter)
    hangs, other = (Backend(name, "h", 1, 1.0) for name in "ab")
    tenant = Tenant("d", "u")
    chairs = [Chair(hangs, tenant) for _ in range(3)]
    for chair in chairs:
        limiter.wait(chair)
    stage.claims.order(TOTAL, "grant", 3)
    assert all(chair.served for chair in chairs)
    waits, comes = Chair(other, tenant), Chair(other, tenant)
    limiter.wait(waits)
    stage.claims.order(TOTAL, "recall", 2)
    limiter.note_away(hangs, is_away=True)
    assert not limiter.take(comes, 1.0)
    limiter.wait(comes)
    assert not comes.served
    limiter.serve(2.0)
    assert waits.served
    assert comes.served


def test_where_there_is_no_limit_nobody_is_asked() -> None:
    stage = Stage()
    limiter = Limiter(0)
    quotas = SeatQuotas(stage.claims, limiter)
    backend = Backend("a", "h", 1, 1.0)
    quotas.begins(backend)
    chair = Chair(backend, Tenant("d", "u"))
    assert limiter.take(chair, 0.0)
    assert stage.sent == []


async def test_a_client_waits_until_it_is_known_whether_there_is_room() -> None:
    stage = Stage()
    quotas = ClientQuotas(stage.claims)
    limit = quotas.limit(("clients",), 9)
    assert limit is quotas.limit(("clients",), 9)
    assert not limit.has_room
    first, second = (asyncio.get_running_loop().create_task(quotas.room(limit)) for _ in range(2))
    await asyncio.sleep(0)
    assert stage.asked() == {("clients",): 2}
    stage.claims.order(("clients",), "grant", 1)
    await first
    limit.used += 1
    assert not second.done()
    stage.claims.order(("clients",), "dry", 2)
    await second
    assert not limit.has_room
    third = asyncio.get_running_loop().create_task(quotas.room(limit))
    await asyncio.sleep(0)
    assert stage.asked() == {("clients",): 2}
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    stage.claims.tick()
    stage.claims.tick()
    assert stage.asked() == {("clients",): 1}
    await quotas.room(Limit(("clients", "user", "u"), 0))
