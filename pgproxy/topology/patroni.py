"""`discovery.mode = "patroni"`: the backends are the members that Patroni's REST API tells.

Any member answers for all (GET /cluster). In good times the leader alone is asked, once in each
`interval`; as soon as it does not answer, or somebody else may lead, all are asked at once. What
the answers mean is members.py's, which is PURE. The last list stays for ever, whatever happens to
the members: the servers are asked by the monitor all the same.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from pgproxy import config
from pgproxy.topology.apiserver import ApiError, api_error
from pgproxy.topology.departures import Departures
from pgproxy.topology.members import (
    MOST,
    Answer,
    Basis,
    Member,
    NoViewError,
    Verdict,
    backends_of,
    base_url,
    is_settled,
    judge,
    read_view,
    why_not,
)
from pgproxy.topology.model import Backend, Topology
from pgproxy.topology.restapi import RestApi
from pgproxy.topology.rounds import Contact, Publisher, Rounds
from pgproxy.topology.schedule import Outcome
from pgproxy.topology.source import Counts

# Seconds from one round to the next while there is no primary.
_SMALLEST_GAP: Final = 0.25
# Seconds for which those are waited for who did not answer last time, once others have answered.
_PATIENCE: Final = 0.25
# How often a round asks whom it has just heard of, and no more: it has to end.
_WAVES: Final = 3
# Each round is early by so much of the interval at most, by chance: many proxies, one leader.
_JITTER: Final = 0.1

_log: Final = structlog.stdlib.get_logger()


class Patroni:
    """Follows the members; `requests` counts by outcome."""

    awaited: Final = "no member of Patroni's has answered yet"

    def __init__(
        self,
        settings: config.Patroni,
        on_backends: Callable[[tuple[Backend, ...]], None],
        topology: Callable[[], Topology],
    ) -> None:
        """`topology` is what the monitor knows."""
        self.requests: Final[dict[str, int]] = {}
        self._settings: Final = settings
        self._topology: Final = topology
        self._configured: Final = tuple(dict.fromkeys(base_url(url) for url in settings.urls))
        self._api: Final = RestApi(settings)
        self._publisher: Final = Publisher(on_backends)
        self.synced: Final = self._publisher.synced
        self._departures: Final = Departures()
        self._rounds: Final = Rounds(self._round, _SMALLEST_GAP)
        self._verdict = Verdict((), "", Basis.SERVERS)
        self._scope = settings.scope
        self._is_paused = False
        self._left_out = 0  # members that are too many
        self._contact: Final = Contact()
        self._failing = False  # nobody answers
        self._troubles: dict[str, str] = {}  # by URL, while it does not answer

    @property
    def backends(self) -> tuple[Backend, ...]:
        return self._publisher.backends

    def age(self) -> float:
        """Seconds since a member last answered; since the start if none ever did."""
        return self._contact.age()

    def counts(self) -> Mapping[str, Counts]:
        counts = [((outcome,), count) for outcome, count in self.requests.items()]
        return {"pgproxy_patroni_requests_total": counts}

    def status(self) -> dict[str, object]:
        """For /status."""
        verdict = self._verdict
        reasons = {member.name: why_not(member) for member in verdict.members}
        return {
            "mode": "patroni",
            "scope": self._scope,
            "synced": self.synced.is_set(),
            "last_contact_seconds": self._contact.seconds(),
            "failing": self._failing,
            "silent": dict(self._troubles),
            "paused": self._is_paused,
            "leader": verdict.leader,
            "roles_by": verdict.basis.value,
            "members": [
                {
                    "name": member.name,
                    "role": member.role,
                    "state": member.state,
                    "timeline": member.timeline,
                    "url": member.url,
                }
                for member in verdict.members
            ],
            "backends": len(self.backends),
            "not_serving": {name: reason for name, reason in reasons.items() if reason},
        }

    def look_again(self) -> None:
        """There is no primary: somebody may have got the lock."""
        self._rounds.hurry()

    async def run(self) -> None:
        """Follow until `close` (then it returns) or until it is cancelled."""
        try:
            await self._rounds.run()
        finally:
            await self._api.close()

    async def close(self) -> None:
        """End it; returns when `run` has, if it was ever started."""
        await self._rounds.close()

    async def _round(self) -> float:
        began = time.monotonic()
        answers = await self._answers()
        if answers:
            self._take(judge(answers, self._topology()), answers)
        else:
            if not self._failing:
                self._failing = True
                _log.warning("patroni_silent", silent=self._troubles, kept=len(self.backends))
            self._let_go()
        due = self._settings.interval * (1.0 - _JITTER * random.random())  # noqa: S311 - no secret
        return max(0.0, began + due - time.monotonic())

    async def _answers(self) -> list[Answer]:
        """Of the leader, if that is enough; else of all who can be asked."""
        answers: list[Answer] = []
        known = self._verdict.members
        asked: set[str] = set()
        if self._verdict.basis is Basis.LEADER:
            leader = self._verdict.leader
            asked = {member.url for member in known if member.url and member.name == leader}
            await self._ask(asked, answers)
        for _ in range(_WAVES):
            if is_settled(answers, self._topology()):
                break
            members = [*known, *[one for answer in answers for one in answer.view.members]]
            others = {member.url for member in members if member.url}.union(self._configured)
            others -= asked
            if not others:
                break
            asked |= others
            await self._ask(others, answers)
        self._troubles = {url: said for url, said in self._troubles.items() if url in asked}
        return answers

    async def _ask(self, urls: Iterable[str], answers: list[Answer]) -> None:
        """All of them at once. What is still to come when the matter is settled is not waited for, and
        no more than a moment for those who did not answer last time."""
        async with asyncio.TaskGroup() as group:
            asking = {group.create_task(self._get(url)): url for url in urls}
            while asking:
                is_late = bool(answers) and self._troubles.keys() >= set(asking.values())
                done, _ = await asyncio.wait(
                    asking,
                    timeout=_PATIENCE if is_late else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    del asking[task]
                    answer = task.result()
                    if answer is not None:
                        answers.append(answer)
                if not done or is_settled(answers, self._topology()):
                    for task in asking:
                        task.cancel()
                    return

    async def _get(self, url: str) -> Answer | None:
        try:
            view = read_view(await self._api.get(f"{url}/cluster"), self._scope)
        except NoViewError as error:
            self._failed(url, ApiError(Outcome.GARBLED, str(error)))
            return None
        except Exception as error:  # noqa: BLE001 - nothing that a peer sends may end the rounds
            self._failed(url, api_error(error))
            return None
        self._count(Outcome.OK)
        if self._troubles.pop(url, ""):
            _log.info("patroni_member_recovered", url=url)
        return Answer(url, view)

    def _failed(self, url: str, error: ApiError) -> None:
        self._count(error.outcome)
        said = f"{error.outcome.value}: {error}"
        if self._troubles.get(url) != said:
            _log.warning(
                "patroni_member_failed", url=url, outcome=error.outcome.value, reason=str(error)
            )
        self._troubles[url] = said

    def _count(self, outcome: Outcome) -> None:
        self.requests[outcome.value] = self.requests.get(outcome.value, 0) + 1

    def _take(self, verdict: Verdict, answers: list[Answer]) -> None:
        now = time.monotonic()
        self._contact.made()
        if self._failing:
            self._failing = False
            _log.info("patroni_answers_again")
        self._scope = self._scope or next(
            (answer.view.scope for answer in answers if answer.view.scope), ""
        )
        self._is_paused = any(answer.view.is_paused for answer in answers)
        left_out = max(answer.view.left_out for answer in answers)
        if left_out and not self._left_out:
            _log.warning("patroni_too_many", members=MOST + left_out, taken=MOST)
        self._left_out = left_out
        before = self._verdict
        if verdict.basis is Basis.SERVERS:
            # Whoever is missing may be so for the same reason for which nobody is believed.
            verdict = Verdict(_joined(before.members, verdict.members), "", verdict.basis)
        backends = backends_of(verdict)
        if not backends and self.backends:
            # Like a list of pods without a pod: the DCS has been emptied, and the servers go on.
            _log.warning("patroni_without_members", scope=self._scope, kept=len(self.backends))
            self._let_go()
            return
        self._verdict = verdict
        if (verdict.leader, verdict.basis) != (before.leader, before.basis):
            _log.info("patroni_leader", leader=verdict.leader, said_by=verdict.basis.value)
        self._publisher.publish(self._departures.follow(backends, self._topology(), now))

    def _let_go(self) -> None:
        """There is no list that could be believed; who was missing in the last one goes all the same."""
        if self.synced.is_set():
            self._publisher.publish(self._departures.go_on(self._topology(), time.monotonic()))


def _joined(before: tuple[Member, ...], members: tuple[Member, ...]) -> tuple[Member, ...]:
    """By name; of both the later."""
    return tuple(({one.name: one for one in before} | {one.name: one for one in members}).values())
