"""What operators see: [http] and [log]."""

from typing import Literal

from pgproxy.config.kinds import LinesOrAll, Name, PortOrAny, Section


class Http(Section):
    """Where /metrics, /livez, /readyz, /startupz and /status answer."""

    host: Name = "0.0.0.0"  # noqa: S104 - probes and scrapes come from outside the pod
    port: PortOrAny = 9930


class Log(Section):
    """What goes to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    rate: LinesOrAll = 20
