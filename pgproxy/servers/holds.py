"""HOT. Those owners of one pool's connections who only hold them: not long, if others wait."""

from typing import TYPE_CHECKING, Final, final

from pgproxy.servers.connection import Owner

if TYPE_CHECKING:
    from pgproxy.servers.pool import Pool

# Seconds that others wait for a connection at least, and at most twice; and after how many times that
# it is let go of although nobody waits.
HOLD: Final = 0.05
LONGEST_HOLD: Final = 20


@final
class Holds:
    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._ages: dict[Owner, int] = {}  # since how many times HOLD
        self._is_ageing = False

    def begin(self, owner: Owner) -> None:
        """The owner has finished and keeps its connection, until its `let_go` is called."""
        self._ages[owner] = 0
        self._age_later()

    def end(self, owner: Owner) -> None:
        self._ages.pop(owner, None)

    def _age_later(self) -> None:
        if self._ages and not self._is_ageing:
            self._is_ageing = True
            self._pool.context.call_later(HOLD, self._age)

    def _age(self) -> None:
        pool = self._pool
        self._is_ageing = False
        for owner, age in list(self._ages.items()):
            if owner not in self._ages:
                continue
            is_wanted = pool.ledger.waiting > 0 or pool.budget.is_strained
            if age >= LONGEST_HOLD or (age > 0 and is_wanted):
                del self._ages[owner]
                owner.let_go()
            else:
                self._ages[owner] = age + 1
        self._age_later()
