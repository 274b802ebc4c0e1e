"""The other proxies of the same service: finds them, asks each how it stands, and passes on to them
the cancel requests that are for their clients.

What is known is the book's (book.py), what follows for the servers' connections the division's
(division.py), both PURE. Each is asked every `peers.interval` seconds.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from pgproxy.clients.cancel import instance_of
from pgproxy.config import Config
from pgproxy.peers.book import Book, State
from pgproxy.peers.division import Division
from pgproxy.peers.http import Caller, PeerError
from pgproxy.peers.sources import Source, source_of
from pgproxy.peers.word import INSTANCES, Address, Word
from pgproxy.servers.sizes import BESIDE

_log: Final = structlog.stdlib.get_logger()

# A part grows when for so many intervals nobody has come or gone.
CALM: Final = 3
# Cancel requests for others that are under way, and those together with who waits for that; requests
# for somebody who is not known, and may yet come; others that one of them is given to. At most.
AT_ONCE: Final = 64
MOST: Final = 1000
MOST_UNKNOWN: Final = 200
MOST_OTHERS: Final = 8
# What became of those, as the metric has it.
DELIVERED: Final = "delivered"
FAILED: Final = "failed"  # it gave no answer
REFUSED: Final = "refused"  # there is no such client any more, or the secret is not its own
UNKNOWN: Final = "unknown"  # no other proxy has keys that begin so
DROPPED: Final = "dropped"  # too many at once
RESULTS: Final = (
    DELIVERED,
    FAILED,
    REFUSED,
    UNKNOWN,
    DROPPED,
)  # of several others the first counts


class Peers:
    """`run` it as a task. `held` tells how many connections the pools may have, or have, by server;
    `on_shares` is told how many they may have from now on, where `pool.cluster_budget` divides them.
    """

    def __init__(
        self,
        config: Config,
        *,
        held: Callable[[], Mapping[str, int]],
        is_draining: Callable[[], bool],
        on_shares: Callable[[Mapping[str, int]], None],
    ) -> None:
        self.instance: Final = secrets.randbelow(INSTANCES)
        self.id: Final = f"{socket.gethostname()}-{secrets.token_hex(8)}"
        self.cancels: Final = dict.fromkeys(RESULTS, 0)
        self.book: Final = Book(self.id)
        self._interval: Final = config.peers.interval
        self._source: Final[Source] = source_of(config, self._listed)
        self._held: Final = held
        self._is_draining: Final = is_draining
        self._on_shares: Final = on_shares
        self._beside: Final = BESIDE * config.listen.workers
        self._rooms: Final[dict[str, int]] = {}
        self.division: Division | None = None
        if config.pool.cluster_budget:
            cap = config.pool.max_backend_connections
            self.division = Division(self.id, self._beside, cap, CALM * self._interval)
        self._group: asyncio.TaskGroup | None = None  # while it runs
        self._caller: Caller | None = None
        self._asking: Final[set[Address]] = set()
        self._is_listed = False
        self._news = asyncio.Event()
        self._line: Final = asyncio.Semaphore(AT_ONCE)
        self._passing = 0  # cancel requests, those that wait for their turn included
        self._unknown = 0  # those that wait for somebody to come
        self._told_too_small: set[str] = set()

    def word(self) -> Word:
        """What is said to the others."""
        return Word(self.id, self.instance, self._beside, self._held(), self._is_draining())

    def learn_room(self, backend: str, room: int) -> None:
        """So many connections of ordinary users a server takes; 0: that is not known."""
        self._rooms[backend] = room
        self._divide()

    @property
    def why_not_ready(self) -> str | None:
        """Where connections are divided: whom else they are for must be known first."""
        if self.division is None or self.division.is_settled:
            return None
        if self._is_listed and not self._is_found:
            return (
                "this proxy is not among the pods of peers.selector, or does not answer at its pod's"
                " address (http.host, http.port, peers.port)"
            )
        return "what part of the servers' connections is this proxy's is not known yet"

    @property
    def _is_found(self) -> bool:
        """Where this proxy would be one of the others to the others, it must be: or each took itself
        for the only one."""
        return self.book.has_own or not self._source.lists_all

    async def run(self) -> None:
        """Until it is cancelled."""
        self._caller = Caller()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._source.run())
                while True:
                    self._ask_all()
                    self._divide()
                    await asyncio.sleep(self._interval)
        finally:
            self._group = None
            await self._caller.close()

    # --- who is there -------------------------------------------------------------------------

    def _listed(self, addresses: Sequence[Address]) -> None:
        before = self.book.addresses
        self.book.follow(addresses)
        self._is_listed = True
        if self.book.addresses != before:
            _log.info("peers_found", peers=[str(address) for address in addresses])
            self._ask_all()

    def _ask_all(self) -> None:
        if self._group is None:
            return
        for address in self.book.addresses:
            if address not in self._asking:
                self._asking.add(address)
                self._group.create_task(self._ask(address))

    async def _ask(self, address: Address) -> None:
        assert self._caller is not None
        before = self.book.peer(address)
        was, known = (None, None) if before is None else (before.state, before.word)
        try:
            word = await self._caller.ask(address)
        except PeerError as error:
            if was is not None:
                self._failed(address, was, error)
        else:
            self.book.answered(address, word)
            if known is None or known.id != word.id:
                _log.info("peer_up", peer=str(address), id=word.id)
            self._wake()
        finally:
            self._asking.discard(address)
        self._divide()

    def _failed(self, address: Address, was: State, error: PeerError) -> None:
        self.book.failed(address, str(error), is_refused=error.is_refused)
        now = State.ENDED if error.is_refused else State.SILENT
        if now is was:
            return
        if now is State.SILENT:
            _log.warning(
                "peer_silent",
                peer=str(address),
                reason=str(error),
                check="that a NetworkPolicy lets the proxies reach each other's HTTP port",
            )
        else:
            _log.info("peer_ended", peer=str(address))

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # --- what each may have -------------------------------------------------------------------

    def _divide(self) -> None:
        division = self.division
        is_known = self._is_listed and self.book.is_complete
        if division is None or not is_known or not (division.is_settled or self._is_found):
            return
        before = division.shares
        shares = division.look(self._rooms, self.book.holders(), time.monotonic())
        self._warn(division)
        if shares != before:
            _log.info("budget_divided", proxies=division.proxies, shares=shares)
            self._on_shares(shares)

    def _warn(self, division: Division) -> None:
        too_small = {
            name for name, budget in division.budgets.items() if 0 < budget < division.proxies
        }
        for name in too_small - self._told_too_small:
            _log.warning(
                "cluster_budget_too_small",
                backend=name,
                connections=division.budgets[name],
                proxies=division.proxies,
                reason="each proxy has one all the same",
            )
        self._told_too_small = too_small

    # --- cancel requests ----------------------------------------------------------------------

    async def cancel(self, pid: int, secret: bytes) -> None:
        """A CancelRequest that is not for a client of this proxy; returns when it has had its
        effect. To nobody but those whose keys begin as this one does it is passed on, and they do
        not pass it on: whoever sends a flood of them has no more sent than that."""
        addresses = await self._owners(instance_of(pid))
        if not addresses:
            self.cancels[UNKNOWN] += 1
        elif self._passing >= MOST:
            self.cancels[DROPPED] += 1
        else:
            self._passing += 1
            try:
                async with self._line:
                    found = await asyncio.gather(
                        *[self._pass_on(one, pid, secret) for one in addresses[:MOST_OTHERS]]
                    )
            finally:
                self._passing -= 1
            self.cancels[next(result for result in RESULTS if result in found)] += 1

    async def _owners(self, instance: int) -> list[Address]:
        """One that has only just begun may not be known yet: within two intervals it is."""
        found = self.book.of_instance(instance)
        if found or instance == self.instance or self._unknown >= MOST_UNKNOWN:
            return found
        self._unknown += 1
        try:
            async with asyncio.timeout(2 * self._interval):
                while not found:
                    await self._news.wait()
                    found = self.book.of_instance(instance)
        except TimeoutError:
            pass
        finally:
            self._unknown -= 1
        return found

    async def _pass_on(self, address: Address, pid: int, secret: bytes) -> str:
        caller = self._caller
        if caller is None:
            return FAILED
        try:
            return DELIVERED if await caller.cancel(address, pid, secret) else REFUSED
        except PeerError as error:
            _log.warning("cancel_not_passed_on", peer=str(address), reason=str(error))
            return FAILED

    # --- what is told of it -------------------------------------------------------------------

    @property
    def shares(self) -> Mapping[str, int]:
        """Connections of each server that are this proxy's; empty where they are not divided."""
        return {} if self.division is None else self.division.shares

    def states(self) -> Mapping[str, int]:
        """How many proxies there are, this one too, by what is known of them."""
        found = {state.value: 0 for state in State}
        for peer in self.book.peers:
            found[peer.state.value] += 1
        return found

    def status(self) -> dict[str, object]:
        """For /status."""
        return {
            "id": self.id,
            "instance": self.instance,
            "discovery": self._source.status(),
            "shares": dict(self.shares),
            "cancels": dict(self.cancels),
            "proxies": [
                {
                    "address": str(peer.address),
                    "id": "" if peer.word is None else peer.word.id,
                    "self": self.book.is_own(peer),
                    "state": peer.state.value,
                    "draining": peer.word is not None and peer.word.draining,
                    "held": {} if peer.word is None else dict(peer.word.held),
                    "error": peer.error,
                }
                for peer in self.book.peers
            ],
        }

    def rows(self) -> list[list[str | int | None]]:
        """Of SHOW PEERS."""
        return [
            [
                None if peer.word is None else peer.word.instance,
                peer.address.host,
                peer.address.port,
                None,
                "" if peer.word is None else peer.word.id,
                "self" if self.book.is_own(peer) else peer.state.value,
            ]
            for peer in self.book.peers
        ]
