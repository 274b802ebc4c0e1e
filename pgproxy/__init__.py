"""One PostgreSQL endpoint: reads go to replicas, writes to the primary, connections are pooled.

The listing is the pipeline; imports go down it, never up (`make check` holds that).

    cli        argv and environment → configuration → app
    demo       the same with servers of its own
    app/       builds every part, owns signals and the order of the drain
    label/     the other program: sets role labels on pods
    workers/   several processes as one proxy
    peers/     the other proxies of the same service
    clients/   ① bytes from applications
    frames/    ② bytes ⇄ frames                  PURE: no I/O, no clock, no logging
    protocol/  ③ frames ⇄ meaning                PURE
    relay/     the data path of one client
    routing/   ④ meaning → decision, with a reason  PURE
    servers/   ⑤ decision → connection, pools
    topology/  which servers there are, and what each may do
    telemetry/ what operators see: metrics, health, logs
    config/    what may be set, where it is from, what is wrong with it
    embedded/  PostgreSQL for the demo and the tests
    errors     what can go wrong, told apart by whose fault it is
"""

from pgproxy import _compiled

__version__ = "0.1.0"

_compiled.install()
