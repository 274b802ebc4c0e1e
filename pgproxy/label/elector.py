"""Takes part in the election (election.py): reads and writes the Lease, over and over.

Nothing that the API server does ends it. Whether this instance leads is told by `leads`, which must
be asked at the moment of each action: it ends by the clock, not by an event.
"""

import asyncio
import datetime
import random
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from pgproxy.label.election import Election, Record, lease_with, record_of
from pgproxy.label.requests import CONFLICT, NOT_FOUND, Requests
from pgproxy.topology.apiserver import ApiError

# Seconds for the last request of all.
_LAST_WORDS: Final = 2.0
# Attempts come after `retry_period`, and up to so much of it more by chance.
_JITTER: Final = 0.2

_log: Final = structlog.stdlib.get_logger()


class Elector:
    """`run` it as a task; when that has ended, `give_back`. `on_won` is called in the event loop."""

    def __init__(
        self, name: str, election: Election, requests: Requests, on_won: Callable[[], None]
    ) -> None:
        self.election: Final = election
        self.is_known = False  # the Lease was read or written once
        self._name: Final = name
        self._requests: Final = requests
        self._on_won: Final = on_won
        self._lease: dict[str, Any] | None = None  # as this instance wrote it; None: to be read
        self._led = False  # as last logged
        self._holder = ""  # the same

    @property
    def identity(self) -> str:
        return self.election.identity

    @property
    def term(self) -> int:
        """How often it has begun to lead."""
        return self.election.terms_won

    def leads(self) -> bool:
        return self.election.leads(time.monotonic())

    def seconds_left(self) -> float:
        """For how long it leads without a further write."""
        return self.election.leads_until - time.monotonic()

    async def run(self) -> None:
        period = self.election.terms.retry_period
        while True:
            try:
                try:
                    await self._attempt()
                except ApiError as error:
                    if error.status != CONFLICT:
                        raise
                    self._lease = None  # somebody else has written it
                    await self._attempt()
            except ApiError as error:
                self._lease = None
                _log.debug("lease_not_written", reason=str(error))
            else:
                self._requests.failing.clear()  # what is needed works
            self._tell()
            await asyncio.sleep(period * (1.0 + _JITTER * random.random()))  # noqa: S311 - no secret

    async def give_back(self) -> None:
        """Lead no more, and let another one do so at once."""
        record = self.election.give_back(_wall())
        if record is None:
            return
        try:
            async with asyncio.timeout(_LAST_WORDS):
                await self._free(record)
        except (ApiError, TimeoutError) as error:
            _log.info("lease_not_given_back", lease=self._name, reason=str(error))
        else:
            _log.info("lease_given_back", lease=self._name)

    async def _free(self, record: Record) -> None:
        # What was under way when it was told to stop may have been written or not.
        lease = await self._requests.get_lease(self._name, _LAST_WORDS)
        if record_of(lease).holder == self.election.identity:
            free = lease_with(lease, record)
            await self._requests.update_lease(self._name, free, _LAST_WORDS)

    async def _attempt(self) -> None:
        election = self.election
        # Half of the deadline: an attempt that hangs is not the last one.
        limit = election.terms.renew_deadline / 2
        lease = self._lease if self.leads() else None
        if lease is None:
            try:
                lease = await self._requests.get_lease(self._name, limit)
            except ApiError as error:
                if error.status != NOT_FOUND:
                    raise
                election.saw(None, time.monotonic())
            else:
                election.saw(record_of(lease), time.monotonic())
                self.is_known = True
        if not election.may_take(time.monotonic()):
            return
        record = election.claim(_wall())
        sent_at = time.monotonic()
        self._lease = await self._written(lease, record, limit)
        election.wrote(record, sent_at, time.monotonic())
        self.is_known = True

    async def _written(
        self, lease: dict[str, Any] | None, record: Record, limit: float
    ) -> dict[str, Any]:
        written: dict[str, Any]
        if lease is None:
            empty = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name},
            }
            written = await self._requests.create_lease(lease_with(empty, record), limit)
        else:
            written = await self._requests.update_lease(
                self._name, lease_with(lease, record), limit
            )
        return written

    def _tell(self) -> None:
        leads, holder = self.leads(), self.election.holder
        if leads and not self._led:
            _log.info("lease_won", lease=self._name, identity=holder)
            self._on_won()
        elif self._led and not leads:
            _log.warning("lease_lost", lease=self._name, holder=holder)
        elif not leads and holder not in ("", self._holder):
            _log.info("lease_held", lease=self._name, holder=holder)
        self._led, self._holder = leads, holder


def _wall() -> str:
    """MicroTime, as Kubernetes writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
