"""One PostgreSQL endpoint: reads go to replicas, writes to the primary, connections are pooled.

The listing is the pipeline; imports go down it, never up (`make check` holds that).

    cli        argv and environment → configuration → app       config  errors  demo  embedded
    app        builds every object, owns signals and the order of the drain
    clients/   ① bytes from applications
    frames/    ② bytes ⇄ frames                  PURE: no I/O, no clock, no logging
    protocol/  ③ frames ⇄ meaning                PURE
    relay      the whole data path of one client in one file
    routing/   ④ meaning → decision, with a reason  PURE
    servers/   ⑤ decision → connection, pools
    topology/  which servers there are, and what each may do
    telemetry/ what operators see: metrics, health, logs
"""

from pgproxy import _compiled

__version__ = "0.1.0"

_compiled.install()
