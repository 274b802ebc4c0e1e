"""File descriptors of the test's own process."""

import contextlib
import resource
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def descriptors_for(clients: int) -> Iterator[None]:
    """Room for the own ends of so many clients; what the proxy needs it sees to itself. Skips the
    test where the machine allows no process so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = clients + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"a process may have {hard} descriptors only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
