"""The whole configuration: one frozen model per section, with its defaults and its bounds."""

from pgproxy.config.beside import Label, Peers
from pgproxy.config.clients import Auth, Listen
from pgproxy.config.kinds import Section
from pgproxy.config.limits import Limits, Timeouts
from pgproxy.config.routing import Consistency, Routing
from pgproxy.config.servers import Pool, Replication, Server
from pgproxy.config.telemetry import Http, Log
from pgproxy.config.topology import Discovery, Health


class Config(Section):
    """The whole configuration."""

    listen: Listen = Listen()
    http: Http = Http()
    auth: Auth = Auth()
    server: Server = Server()
    pool: Pool = Pool()
    replication: Replication = Replication()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    routing: Routing = Routing()
    consistency: Consistency = Consistency()
    health: Health = Health()
    discovery: Discovery = Discovery()
    label: Label = Label()
    peers: Peers = Peers()
    log: Log = Log()

    @property
    def max_running_per_backend(self) -> int:
        """How many may be in flight on each backend, where that is learnt at most; 0: any number."""
        limits = self.limits
        if not limits.adaptive:
            return limits.max_concurrent_per_backend
        caps = [cap for cap in (limits.max_concurrent_per_backend, limits.max_concurrent) if cap]
        return min(caps, default=self.pool.size)
