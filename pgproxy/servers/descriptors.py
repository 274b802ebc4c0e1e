"""Who may have the last file descriptors: not the clients, and of the servers not the pools.

The lowest free number is what a new descriptor gets (POSIX), so a number near the limit says that
there are few left. Clients leave enough for the connections to servers that their statements need;
both leave some for what watches: the monitor's connections, probes and scrapes on the HTTP port.
"""

import resource
from typing import Final

# Descriptors that are kept from clients and from pools, or this part of all where there are few.
FROM_CLIENTS: Final = 128
FROM_CLIENTS_PART: Final = 4
FROM_POOLS: Final = 32
FROM_POOLS_PART: Final = 16

NONE_LEFT: Final = "too many open files: the proxy has no file descriptor left for it"


def limit() -> int:
    """How many this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def for_clients() -> int:
    """Numbers below this are for anybody."""
    most = limit()
    return most - min(FROM_CLIENTS, most // FROM_CLIENTS_PART)


def for_pools() -> int:
    """Numbers below this are for connections to servers."""
    most = limit()
    return most - min(FROM_POOLS, most // FROM_POOLS_PART)
