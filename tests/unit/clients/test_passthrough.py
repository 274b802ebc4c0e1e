"""What the server of a replication connection is given of its client's start-up packet."""

import pytest

from pgproxy.clients.passthrough import server_parameters
from pgproxy.protocol.startup import StartupMessage

WORK_MEM = rb"-c work_mem=1MB -c application_name=a\ b"


@pytest.mark.parametrize(
    ("options", "named", "left"),
    [
        (b"", "", b""),
        (WORK_MEM, "", WORK_MEM),
        # As it came: whatever of it the server does not take, the server refuses.
        (b"-c x.y=pgproxy.route --z -q", "", b"-c x.y=pgproxy.route --z -q"),
        (b"-c pgproxy.backend=replica-2", "replica-2", b""),
        (b"--pgproxy.backend=one -c PGPROXY.Backend=two", "two", b""),
        (WORK_MEM + rb" -c pgproxy.backend=a\ b", "a b", WORK_MEM),
        (b"-c x.y=pgproxy.backend", "", b"-c x.y=pgproxy.backend"),
    ],
)
def test_a_backend_is_named_in_options(options: bytes, named: str, left: bytes) -> None:
    others = [(b"database", b"d"), (b"replication", b"database"), (b"application_name", b"n")]
    message = StartupMessage(196608, [(b"user", b"u"), *others, (b"options", options)], [])
    found = server_parameters(message)
    assert found == (named, [*others, (b"options", left)] if left or not options else others)


def test_a_backend_is_named_like_a_setting() -> None:
    message = StartupMessage(196608, [(b"pgproxy.backend", b"b"), (b"user", b"u")], [])
    assert server_parameters(message) == ("b", [])
