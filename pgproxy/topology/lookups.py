"""Asks nameservers for what is under names: the addresses of both families, the targets of services.

What follows from the answers is records.py's, which is PURE. A question whose answers do not come in
time has, where the other family of that name has answered, no more than a moment in most rounds: it
may be the only thing for which a round would wait.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver
import structlog

from pgproxy.config import Dns, nameserver
from pgproxy.topology.model import Backend
from pgproxy.topology.records import MOST, Outcome, Question, Records, Reply, is_failure

_PORT: Final = 53
# Seconds for which a question that was silent last time is waited for when all others are answered.
_PATIENCE: Final = 0.25
# One round of so many waits for a silent one as long as for any other.
_PATIENT_ROUNDS: Final = 8

_log: Final = structlog.stdlib.get_logger()


class Lookups:
    """`round` asks for everything once. `by_outcome` counts by type and outcome."""

    def __init__(self, settings: Dns) -> None:
        self.by_outcome: Final[dict[tuple[str, str], int]] = {}
        self.records: Final = Records(settings)
        self.troubles: dict[str, str] = {}  # by question
        self.failures = 0  # rounds in a row in which something failed, or nothing was found
        self._settings: Final = settings
        self._silent: dict[Question, int] = {}  # rounds in a row
        self._too_many: Final[set[Question]] = set()

    async def round(self) -> Mapping[Question, Reply]:
        """Ask; `records` knows the answers then."""
        replies = await self._ask_all(self.records.questions())
        replies |= await self._ask_all(self.records.further_questions())
        self.records.forget_the_rest()
        silent = [asked for asked, reply in replies.items() if reply.outcome is Outcome.SILENT]
        self._silent = {question: self._silent.get(question, 0) + 1 for question in silent}
        self._note(replies)
        return replies

    def backends(self) -> tuple[Backend, ...]:
        """What has been found, as far as it is known."""
        return self.records.backends()

    async def _ask_all(self, questions: list[Question]) -> dict[Question, Reply]:
        if not questions:
            return {}
        # Made anew each time: /etc/resolv.conf may have been written anew.
        try:
            resolver = self._resolver()
        except (dns.exception.DNSException, OSError, ValueError) as error:
            reply = Reply(Outcome.CONFIGURATION, message=str(error))
            return dict.fromkeys(questions, reply)
        found: dict[Question, Reply] = {}
        async with asyncio.TaskGroup() as group:
            asking = {group.create_task(self._ask(resolver, one)): one for one in questions}
            while asking:
                done, _ = await asyncio.wait(
                    asking,
                    timeout=_PATIENCE if self._may_be_left(list(asking.values()), found) else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    found[asking.pop(task)] = task.result()
                if not done:
                    for task, question in asking.items():
                        task.cancel()
                        message = f"no answer within {_PATIENCE:g} s, nor the last time"
                        found[question] = Reply(Outcome.SILENT, message=message)
                    break
        for question, reply in found.items():
            self.records.take(question, reply)
        return found

    def _may_be_left(self, asking: list[Question], found: Mapping[Question, Reply]) -> bool:
        """Whether those that are still asked were silent last time, each with an answer of the other
        family, and it is no round in which they have all their time."""
        answered = {
            question.name for question, reply in found.items() if reply.outcome is Outcome.OK
        }
        return all(
            question.name in answered and self._silent.get(question, 0) % _PATIENT_ROUNDS
            for question in asking
        )

    def _resolver(self) -> dns.asyncresolver.Resolver:
        settings = self._settings
        resolver = dns.asyncresolver.Resolver(configure=not settings.nameservers)
        if settings.nameservers:
            resolver.nameservers = [_nameserver(text) for text in settings.nameservers]
        # A part of it, so that each nameserver has a chance, and one alone a second one.
        resolver.timeout = settings.timeout / max(2, len(resolver.nameservers))
        resolver.lifetime = settings.timeout
        return resolver

    async def _ask(self, resolver: dns.asyncresolver.Resolver, question: Question) -> Reply:
        try:
            answer = await resolver.resolve(
                question.name, question.kind, search=True, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN as error:
            return Reply(Outcome.NO_NAME, message=str(error))
        except dns.exception.Timeout as error:
            return Reply(Outcome.SILENT, message=str(error))
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            return Reply(Outcome.REFUSED, message=str(error) or type(error).__name__)
        if answer.rrset is None:
            return Reply(Outcome.EMPTY, message="no such records")
        ttl = float(answer.chaining_result.minimum_ttl)
        if question.kind == "SRV":
            targets = [(record.target.to_text(), record.port) for record in answer.rrset]
            values = [target for target in targets if target[0] != "."]
        else:
            values = [(record.address, 0) for record in answer.rrset]
        return Reply(Outcome.OK, self._not_too_many(question, values), ttl)

    def _not_too_many(
        self, question: Question, values: list[tuple[str, int]]
    ) -> tuple[tuple[str, int], ...]:
        if len(values) <= MOST:
            self._too_many.discard(question)
            return tuple(values)
        if question not in self._too_many:
            self._too_many.add(question)
            _log.warning("dns_too_many", question=_text(question), records=len(values), taken=MOST)
        return tuple(sorted(values)[:MOST])  # the same ones each time

    def _note(self, replies: Mapping[Question, Reply]) -> None:
        """Count, and tell of each trouble once."""
        troubles = {}
        for question, reply in replies.items():
            key = (question.kind, reply.outcome.value)
            self.by_outcome[key] = self.by_outcome.get(key, 0) + 1
            if is_failure(reply) or reply.outcome is Outcome.NO_NAME:
                name = _text(question)
                troubles[name] = f"{reply.outcome.value}: {reply.message}"
                if name not in self.troubles:
                    _log.warning(
                        "dns_failed",
                        question=name,
                        outcome=reply.outcome.value,
                        reason=reply.message,
                        known=len(self.backends()),
                    )
        for name in self.troubles:
            if name not in troubles:
                _log.info("dns_recovered", question=name)
        self.troubles = troubles
        has_found = any(reply.outcome is Outcome.OK for reply in replies.values())
        has_failed = not has_found or any(map(is_failure, replies.values()))
        self.failures = self.failures + 1 if has_failed else 0


def _text(question: Question) -> str:
    return f"{question.kind} {question.name}"


def _nameserver(text: str) -> dns.nameserver.Nameserver:
    """10.0.0.10, fd00::10, 10.0.0.10:5353 or [fd00::10]:5353, as the configuration has seen to."""
    address, port = nameserver(text)
    return dns.nameserver.Do53Nameserver(address, port or _PORT)
