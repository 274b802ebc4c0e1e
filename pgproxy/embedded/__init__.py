"""Real PostgreSQL servers on this machine, for the demo and the tests: one primary, N replicas.

`find_installation()` says which PostgreSQL is used; `Cluster.create()` starts a primary and its
streaming replicas in a new temporary directory, on free ports of 127.0.0.1. Everything is
synchronous and may be called from any thread (from asyncio: `asyncio.to_thread`), but one `Server`
is to be driven by one thread at a time.

Nothing is left behind. A watchdog process (watchdog.py) holds one end of a pipe; when the
other end closes, because of `Cluster.close()` or because the process that owned the cluster has
died in whatever way, it stops the servers and deletes the directory. It is the only code that does
so: the way after a kill -9 is the way taken every time. (A child that the owner forks without exec
holds the pipe too, and so delays the watchdog until its own end.)

Run as root, every PostgreSQL process belongs to `nobody` (not `postgres`: whoever may connect as
superuser can run programs as that user, who may own the system's own databases). Root then writes
no file below a directory which that user owns, apart from `standby.signal`.
"""

from pgproxy.embedded.cluster import Cluster
from pgproxy.embedded.installation import EmbeddedError, Installation, find_installation
from pgproxy.embedded.server import HOST, SUPERUSER, TRUST, Server, StopMode

__all__ = [
    "HOST",
    "SUPERUSER",
    "TRUST",
    "Cluster",
    "EmbeddedError",
    "Installation",
    "Server",
    "StopMode",
    "find_installation",
]
