"""`discovery.mode = "static"`: the backends are those of the configuration, always."""

from pgproxy.config import Discovery
from pgproxy.topology.model import Backend


def backends(discovery: Discovery) -> tuple[Backend, ...]:
    """The configured servers, in the order of the file; without a name it is host:port."""
    return tuple(
        Backend(
            name=entry.label,
            host=entry.host,
            port=entry.port,
            role=entry.role,
            weight=entry.weight,
            zone=entry.zone,
        )
        for entry in discovery.backends
    )
