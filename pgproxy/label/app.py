"""`pgproxy label`: builds every part, connects them, and takes them down in order."""

import asyncio
import math
import secrets
import signal
import socket
from dataclasses import replace
from typing import Final

import structlog

import pgproxy
from pgproxy.config import Config
from pgproxy.label.decisions import Labels
from pgproxy.label.election import Election, Terms
from pgproxy.label.elector import Elector
from pgproxy.label.labeller import Labeller
from pgproxy.label.requests import Requests
from pgproxy.servers.tls import ServerTls
from pgproxy.telemetry.http import at_once, start_http
from pgproxy.telemetry.labelling import LabelCollector
from pgproxy.topology.apiserver import load_client, own_namespace
from pgproxy.topology.kubernetes import Kubernetes
from pgproxy.topology.model import Backend, Topology
from pgproxy.topology.monitor import Monitor
from pgproxy.topology.presets import rules_of

_log: Final = structlog.stdlib.get_logger()


class _Alone:
    """In place of the Lease in a dry run, which writes nothing."""

    def __init__(self, identity: str) -> None:
        self.identity: Final = identity
        self.term: Final = 1

    def seconds_left(self) -> float:
        return math.inf


class Controller:
    """All parts of one running `pgproxy label`."""

    def __init__(self, config: Config, *, dry_run: bool) -> None:
        settings = config.discovery.kubernetes
        label = config.label
        namespace = settings.namespace or own_namespace()
        self.config: Final = config
        self.counts: Final[dict[tuple[str, str, str], int]] = {}
        self._stopping: Final = asyncio.Event()
        # As client-go does it: a pod's name alone would be its successor's too.
        self.identity: Final = f"{socket.gethostname()}_{secrets.token_hex(8)}"
        self.elector: Elector | None = None
        self._lease_requests: Final = Requests(settings, namespace, self.counts)
        if not dry_run:
            terms = Terms(label.lease_duration, label.renew_deadline, label.retry_period)
            self.elector = Elector(
                label.lease, Election(self.identity, terms), self._lease_requests, self._look
            )
        # The watch tells of changes of the label as of changes of a role.
        watched = settings.model_copy(
            update={
                "role_label": label.key,
                "primary_values": (label.primary,),
                "replica_values": (label.replica,),
            }
        )
        # Not each change changes the backends: the label may be wrong again as it was before.
        self.pods: Final = Kubernetes(watched, self._pods_changed, on_news=self._look)
        self.monitor: Final = Monitor(
            None, config.health, self._topology_changed, tls=ServerTls(config.server)
        )
        self._pod_requests: Final = Requests(settings, namespace, self.counts)
        self.labeller: Final = Labeller(
            self._pod_requests,
            rules_of(settings).selector,
            Labels(label.key, label.primary, label.replica, label.fenced),
            label.keep_silent,
            lead=self.elector if self.elector is not None else _Alone(self.identity),
            topology=self._topology,
            dry_run=dry_run,
        )
        _log.info(
            "labelling",
            version=pgproxy.__version__,
            namespace=namespace,
            selector=rules_of(settings).selector,
            label=label.key,
            identity=self.identity,
            dry_run=dry_run,
        )

    @property
    def leads(self) -> bool:
        return self.elector is None or self.elector.leads()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; then the Lease is given back. Raises OSError if the HTTP port
        cannot be had, and what a part has raised that should not end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        labeller = self.labeller
        registry = LabelCollector(
            pgproxy.__version__,
            lambda: self.leads,
            lambda: [pod.value for pod in labeller.pods],
            self.pods.age,
            labeller.changes,
            self.counts,
        ).registry()
        http = await start_http(
            self.config.http.host,
            self.config.http.port,
            registry=at_once(lambda: registry),
            started=at_once(self._why_not_ready),
            ready=at_once(self._why_not_ready),
            status=at_once(self.status),
        )
        _log.info("http_listening", host=http.host, port=http.port)
        try:
            await self._work()
        finally:
            if self.elector is not None:
                await self.elector.give_back()
            await self._pod_requests.close()
            await self._lease_requests.close()
            await http.close()
            _log.info("stopped")

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.pods.run()),
                group.create_task(self.monitor.run()),
                group.create_task(self.labeller.run()),
            ]
            if self.elector is not None:
                tasks.append(group.create_task(self.elector.run()))
            await self._stopping.wait()
            for task in tasks:
                task.cancel()

    def status(self) -> dict[str, object]:
        """For /status."""
        labeller = self.labeller
        return {
            "version": pgproxy.__version__,
            "identity": self.identity,
            "leads": self.leads,
            "holder": self.identity if self.elector is None else self.elector.election.holder,
            "failing": self._failing(),
            "discovery": self.pods.status(),
            "topology": [
                {
                    "name": node.name,
                    "role": node.role.value,
                    "alive": node.alive,
                    "timeline": node.timeline,
                    "error": node.error,
                }
                for node in self.monitor.topology.nodes
            ],
            "labels": [
                {"pod": pod.name, "value": pod.value, "reason": labeller.wishes[pod.name].reason}
                for pod in labeller.pods
                if pod.name in labeller.wishes
            ],
        }

    def _why_not_ready(self) -> str | None:
        if self._stopping.is_set():
            return "stopping"
        failing = self._failing()
        forbidden = [said for said in failing.values() if said.startswith("forbidden")]
        if forbidden:
            return forbidden[0]
        if not self.pods.synced.is_set():
            return "the pods have not been listed yet"
        if self.elector is not None and not self.elector.is_known:
            return next(iter(failing.values()), "the Lease has not been read yet")
        return None

    def _failing(self) -> dict[str, str]:
        return {**self._lease_requests.failing, **self._pod_requests.failing}

    def _topology(self) -> Topology | None:
        return self.monitor.topology if self.monitor.first_round.is_set() else None

    def _topology_changed(self, _topology: Topology) -> None:
        self._look()

    def _pods_changed(self, backends: tuple[Backend, ...]) -> None:
        """What the server says of itself is all that counts: its label is what is to be found, and
        whether a pod is ready or terminating a Service sees by itself."""
        self.monitor.set_backends(
            [replace(one, role="auto", hinted=False, ready=True, leaving=False) for one in backends]
        )
        self._look()

    def _look(self) -> None:
        self.labeller.look()


async def label(config: Config, *, dry_run: bool) -> None:
    """Runs until SIGTERM or SIGINT. Raises OSError if the HTTP port cannot be had."""
    load_client()
    await Controller(config, dry_run=dry_run).run()
