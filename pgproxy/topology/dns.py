"""`discovery.mode = "dns"`: the backends are the addresses under names, asked for anew by their TTL.

The records say where servers are; what they are, the servers say themselves. What follows from the
answers is records.py's, which is PURE. The last list stays for ever, whatever happens to the
nameservers, and so it does when they say that there is nothing at all.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver
import structlog

from pgproxy import config
from pgproxy.config import nameserver
from pgproxy.topology.departures import Departures
from pgproxy.topology.model import Backend, Topology
from pgproxy.topology.records import Outcome, Question, Records, Reply, is_failure, pause_after
from pgproxy.topology.rounds import Contact, Publisher, Rounds
from pgproxy.topology.source import Counts

_PORT: Final = 53
# Seconds from one round to the next while there is no primary.
_SMALLEST_GAP: Final = 1.0
# Rounds for which the first list is waited for while a name is unknown: of two servers the one that
# has been deposed could be the only one in it, and take writes.
_FIRST_ROUNDS: Final = 3

_log: Final = structlog.stdlib.get_logger()


class Dns:
    """Follows the records; `lookups` counts by type and outcome."""

    awaited: Final = "no address has been found yet, or not one of each name"

    def __init__(
        self,
        settings: config.Dns,
        on_backends: Callable[[tuple[Backend, ...]], None],
        topology: Callable[[], Topology],
    ) -> None:
        """`topology` is what the monitor knows."""
        self.lookups: Final[dict[tuple[str, str], int]] = {}
        self._settings: Final = settings
        self._topology: Final = topology
        self._records: Final = Records(settings)
        self._publisher: Final = Publisher(on_backends)
        self.synced: Final = self._publisher.synced
        self._departures: Final = Departures()
        self._rounds: Final = Rounds(self._round, _SMALLEST_GAP)
        self._contact: Final = Contact()
        self._failures = 0  # rounds in a row in which something failed, or nothing was found
        self._troubles: dict[str, str] = {}  # by question
        self._is_empty = False
        self._pause = 0.0

    @property
    def backends(self) -> tuple[Backend, ...]:
        return self._publisher.backends

    def age(self) -> float:
        """Seconds since an address was last found; since the start if none ever was."""
        return self._contact.age()

    def counts(self) -> Mapping[str, Counts]:
        return {"pgproxy_dns_lookups_total": self.lookups.items()}

    def status(self) -> dict[str, object]:
        """For /status."""
        return {
            "mode": "dns",
            "names": list(self._settings.names),
            "synced": self.synced.is_set(),
            "last_contact_seconds": self._contact.seconds(),
            "failing": dict(self._troubles),
            "pause_seconds": round(self._pause, 3),
            "backends": len(self.backends),
            "leaving": [backend.name for backend in self.backends if backend.leaving],
        }

    def look_again(self) -> None:
        """There is no primary: there may be a new address."""
        self._rounds.hurry()

    async def run(self) -> None:
        """Follow until `close` (then it returns) or until it is cancelled."""
        await self._rounds.run()

    async def close(self) -> None:
        """End it; returns when `run` has, if it was ever started."""
        await self._rounds.close()

    async def _round(self) -> float:
        settings = self._settings
        replies = await self._ask_all(self._records.questions())
        replies |= await self._ask_all(self._records.further_questions())
        self._records.forget_the_rest()
        self._note(replies)
        self._publish()
        found = list(replies.values())
        self._pause = pause_after(found, self._failures, settings.min_ttl, settings.max_ttl)
        return self._pause

    async def _ask_all(self, questions: list[Question]) -> dict[Question, Reply]:
        if not questions:
            return {}
        # Made anew each time: /etc/resolv.conf may have been written anew.
        try:
            resolver = self._resolver()
        except (dns.exception.DNSException, OSError, ValueError) as error:
            reply = Reply(Outcome.CONFIGURATION, message=str(error))
            return dict.fromkeys(questions, reply)
        replies = await asyncio.gather(*[self._ask(resolver, one) for one in questions])
        found = dict(zip(questions, replies, strict=True))
        for question, reply in found.items():
            self._records.take(question, reply)
        return found

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
        except (dns.exception.DNSException, OSError) as error:
            return Reply(Outcome.REFUSED, message=str(error) or type(error).__name__)
        if answer.rrset is None:
            return Reply(Outcome.EMPTY, message="no such records")
        ttl = float(answer.chaining_result.minimum_ttl)
        if question.kind == "SRV":
            targets = [(record.target.to_text(), record.port) for record in answer.rrset]
            return Reply(Outcome.OK, tuple(target for target in targets if target[0] != "."), ttl)
        return Reply(Outcome.OK, tuple((record.address, 0) for record in answer.rrset), ttl)

    def _note(self, replies: Mapping[Question, Reply]) -> None:
        """Count, and tell of each trouble once."""
        troubles = {}
        for question, reply in replies.items():
            key = (question.kind, reply.outcome.value)
            self.lookups[key] = self.lookups.get(key, 0) + 1
            if is_failure(reply) or reply.outcome is Outcome.NO_NAME:
                name = f"{question.kind} {question.name}"
                troubles[name] = f"{reply.outcome.value}: {reply.message}"
                if name not in self._troubles:
                    _log.warning(
                        "dns_failed",
                        question=name,
                        outcome=reply.outcome.value,
                        reason=reply.message,
                        kept=len(self.backends),
                    )
        for name in self._troubles:
            if name not in troubles:
                _log.info("dns_recovered", question=name)
        self._troubles = troubles
        has_found = any(reply.outcome is Outcome.OK for reply in replies.values())
        if has_found:
            self._contact.made()
        has_failed = not has_found or any(map(is_failure, replies.values()))
        self._failures = self._failures + 1 if has_failed else 0

    def _publish(self) -> None:
        backends = self._records.backends()
        if not backends:
            if not self._is_empty:
                self._is_empty = True
                _log.warning("dns_empty", names=list(self._settings.names), kept=len(self.backends))
            return
        self._is_empty = False
        is_first = not self.synced.is_set()
        if is_first and self._records.has_gaps and self._failures < _FIRST_ROUNDS:
            return
        topology, now = self._topology(), time.monotonic()
        self._publisher.publish(self._departures.follow(backends, topology, now))


def _nameserver(text: str) -> dns.nameserver.Nameserver:
    """10.0.0.10, fd00::10, 10.0.0.10:5353 or [fd00::10]:5353, as the configuration has seen to."""
    address, port = nameserver(text)
    return dns.nameserver.Do53Nameserver(address, port or _PORT)
