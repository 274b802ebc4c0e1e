"""What is sent in place of a frame."""

import pytest

from pgproxy.frames.codes import F_BIND
from pgproxy.frames.splitter import Splitter
from pgproxy.protocol.prepared import SERVER_PREFIX
from pgproxy.routing.batchreader import CLIENT_FRAMES
from pgproxy.routing.edits import FAILING_BIND, bind_of
from tests.support.wire import SYNC, bind


@pytest.mark.parametrize("portal", ["", "p"])
@pytest.mark.parametrize("name", [b"", b"pgproxy_12"])
def test_a_bind_is_of_another_statement(portal: str, name: bytes) -> None:
    splitter = Splitter(CLIENT_FRAMES)
    splitter.feed(SYNC + bind(b"x", portal=portal, statement="a"))
    while splitter.next() != F_BIND:
        pass
    portal_end = int(splitter.start) + 5 + len(portal)
    renamed = bind_of(name, splitter, portal_end, portal_end + 2)
    assert renamed == bind(b"x", portal=portal, statement=name.decode())


def test_so_is_one_whose_rest_is_on_its_way() -> None:
    splitter = Splitter(CLIENT_FRAMES, prefix=100)
    whole = bind(b"x" * 1000, statement="a")
    splitter.feed(whole[:500])
    assert splitter.next() == F_BIND
    renamed = bind_of(b"pgproxy_1", splitter, 5, 7)
    assert renamed + whole[500:] == bind(b"x" * 1000, statement="pgproxy_1")


def test_the_bind_that_fails_names_what_no_server_has() -> None:
    assert bind(statement=SERVER_PREFIX.decode()) == FAILING_BIND
