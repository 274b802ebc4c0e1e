"""Brings the pods' labels to what their servers say, while this instance may.

Whatever happens (a topology, a change of the pods, the Lease won) is only a reason to look: then the
pods are listed as they are, and patched one by one as decisions.py has it. What could not be done is
done at the next look.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from pgproxy.label.decisions import (
    Labels,
    Pod,
    Step,
    Wish,
    is_silent,
    next_step,
    patch_of,
    pod_of,
    taken,
    wish,
)
from pgproxy.label.requests import CONFLICT, NOT_FOUND, Requests
from pgproxy.topology.apiserver import ApiError
from pgproxy.topology.model import Topology
from pgproxy.topology.schedule import Outcome

# Seconds: from one look to the next at least; at most; and after failures, doubled each time.
_SMALLEST_GAP: Final = 0.1
_LONGEST_GAP: Final = 300.0
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 15.0
# So often in a row a pod that has changed or gone meanwhile is met at once: its status changes often
# during a failover.
_CONFLICTS: Final = 5
# Seconds that a request may take, as far as the Lease lasts.
_ANSWER: Final = 10.0

_log: Final = structlog.stdlib.get_logger()


class Lead(Protocol):
    """Whether, and for how long, this instance may write."""

    @property
    def identity(self) -> str:
        """No other's, in all time."""

    @property
    def term(self) -> int:
        """How often it has begun to lead."""

    def seconds_left(self) -> float:
        """0 or less: it may not."""


class Labeller:
    """`run` it as a task; `look` when something has happened."""

    def __init__(
        self,
        requests: Requests,
        selector: str,
        labels: Labels,
        keep_silent: float,
        *,
        lead: Lead,
        topology: Callable[[], Topology | None],
        dry_run: bool,
    ) -> None:
        """`topology` is the newest, or None as long as the servers have not been asked."""
        self.changes: Final[dict[str, int]] = {}  # by the new value, "" for none
        self.pods: tuple[Pod, ...] = ()  # as last listed or patched
        self.wishes: dict[str, Wish] = {}  # by pod
        self._requests: Final = requests
        self._selector: Final = selector
        self._labels: Final = labels
        self._keep_silent: Final = keep_silent
        self._lead: Final = lead
        self._topology: Final = topology
        self._dry_run: Final = dry_run
        self._wake: Final = asyncio.Event()
        self._silent: dict[str, float] = {}  # by uid: since when (monotonic seconds)
        self._failures = 0  # in a row
        self._unknown = 0  # patches of which nobody knows whether they were done
        self._taken: dict[str, str] = {}  # by pod, what was said of it
        self._would: dict[str, tuple[str, str, str]] = {}  # by pod, the change that was told

    def look(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        wait = _LONGEST_GAP
        while True:
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            wait = await self._look()
            await asyncio.sleep(_SMALLEST_GAP)

    async def _look(self) -> float:
        """Does what can be done; returns the seconds until the next look."""
        if self._lead.seconds_left() <= 0 or self._topology() is None:
            self._requests.failing.clear()
            return _LONGEST_GAP
        try:
            await self._reconcile()
        except ApiError as error:
            _log.debug("labels_not_set", reason=str(error))
            if error.status in (CONFLICT, NOT_FOUND) and self._failures < _CONFLICTS:
                self._failures += 1
                return 0.0
            wait = min(_FIRST_WAIT * 2.0 ** min(self._failures, 30), _LONGEST_WAIT)
            self._failures += 1
            return wait * (1.0 + random.random())  # noqa: S311 - no secret
        self._failures = 0
        self._requests.failing.clear()  # what is needed works
        return self._until_silence()

    async def _reconcile(self) -> None:
        listed = await self._requests.list_pods(self._selector, self._timeout())
        found = [pod_of(pod, self._labels) for pod in listed]
        self.pods = tuple(pod for pod in found if pod is not None)
        self._tell_taken()
        while self._lead.seconds_left() > 0:
            topology = self._topology()
            if topology is None:
                return
            self._wish(topology)
            step = next_step(self.pods, self.wishes, self._labels, self._stamp())
            if step is None:
                return
            await self._carry_out(step)

    def _wish(self, topology: Topology) -> None:
        now = time.monotonic()
        silent = {}
        for pod in self.pods:
            if is_silent(pod, topology):
                silent[pod.uid] = self._silent.get(pod.uid, now)
        self._silent = silent
        self.wishes = {
            pod.name: wish(
                pod, topology, now - silent.get(pod.uid, now), self._labels, self._keep_silent
            )
            for pod in self.pods
        }

    async def _carry_out(self, step: Step) -> None:
        pod = step.pod
        if self._dry_run:
            self._tell_change(step)
            self._replace(pod, Pod(pod.name, pod.uid, pod.resource_version, step.value, step.stamp))
            return
        try:
            answer = await self._requests.patch_pod(
                pod.name, patch_of(step, self._labels), self._timeout()
            )
        except ApiError as error:
            if error.status == 0 or error.status >= 500:
                self._unknown += 1
            raise
        after = pod_of(answer, self._labels)
        if after is None or after.value != step.value:
            raise ApiError(Outcome.REJECTED, f"the label of {pod.name} was not taken over")
        self._replace(pod, after)
        self._tell_change(step)

    def _timeout(self) -> float:
        return min(_ANSWER, max(0.0, self._lead.seconds_left()))

    def _stamp(self) -> str:
        """Another one for each time that patches of before may still be under way."""
        return f"{self._lead.identity}.{self._lead.term + self._unknown}"

    def _replace(self, before: Pod, after: Pod) -> None:
        self.pods = tuple(after if pod is before else pod for pod in self.pods)

    def _until_silence(self) -> float:
        """Seconds until the next server will have been silent for too long."""
        now = time.monotonic()
        waits = [
            since + self._keep_silent - now
            for pod in self.pods
            if pod.value and (since := self._silent.get(pod.uid)) is not None
        ]
        return min([wait for wait in waits if wait > 0], default=_LONGEST_GAP)

    def _tell_change(self, step: Step) -> None:
        pod = step.pod
        if step.value == pod.value:
            _log.debug("pod_stamped", pod=pod.name, stamp=step.stamp)
            return
        if self._dry_run:
            if self._would.get(pod.name) == (pod.uid, pod.value, step.value):
                return
            self._would[pod.name] = (pod.uid, pod.value, step.value)
        else:
            self.changes[step.value] = self.changes.get(step.value, 0) + 1
        _log.info(
            "label_would_change" if self._dry_run else "label_changed",
            pod=pod.name,
            label=self._labels.key,
            was=pod.value,
            value=step.value,
            reason=step.reason,
        )

    def _tell_taken(self) -> None:
        """Each once."""
        found = taken(self.pods, self._labels)
        for name, value in found.items():
            if self._taken.get(name) != value:
                _log.error(
                    "label_taken",
                    pod=name,
                    label=self._labels.key,
                    value=value,
                    reason="somebody else has set it: choose another label.key",
                )
        self._taken = found
