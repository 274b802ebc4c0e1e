"""A server connection hands over chunks, and watches over itself while nobody owns it."""

from collections.abc import Iterator

import pytest

from pgproxy.frames import write
from pgproxy.servers.slots import IDLE as IDLE_PLACE
from tests.playbooks.stage import IDLE, INSERTED, Stage, error
from tests.support.wire import query

INSERT = query("INSERT INTO t VALUES (1)")


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(replicas=0, size=1)
    client = stage.client()
    client >> INSERT
    stage["p"] << INSERT
    stage["p"] >> INSERTED + IDLE
    client << INSERTED + IDLE
    yield stage
    stage.close()


def test_what_a_server_tells_an_idle_connection_is_read_and_dropped(stage: Stage) -> None:
    server, _ = stage["p"].connections[0]
    setting = write.parameter_status(b"TimeZone", b"UTC")
    stage["p"] >> setting[:5]
    stage["p"] >> setting[5:]
    assert server.place == IDLE_PLACE
    assert not server.doomed
    client = stage.client()
    client >> INSERT
    stage["p"] << INSERT
    stage["p"] >> INSERTED + IDLE
    # The next client hears of it: it is the server's own default that has changed.
    client << setting + INSERTED + IDLE


@pytest.mark.parametrize(
    "words", [error("shutting down", "57P01", "FATAL"), b"?\0\0\0\4", b"N\0\0\0\0"]
)
def test_a_server_that_says_good_bye_or_nonsense_is_not_used_again(
    stage: Stage, words: bytes
) -> None:
    stage["p"] >> words
    assert stage["p"].open == 0
    client = stage.client()
    client >> INSERT
    assert len(stage["p"].connections) == 2
    stage["p"] << INSERT


def test_the_load_is_right_when_a_server_leaves_before_a_cancel_has_arrived(stage: Stage) -> None:
    client = stage.client()
    client >> INSERT
    stage["p"] << INSERT
    stage.cancels_arrive = False
    client.relay.cancels.ask()
    stage.settle()
    stage["p"] >> INSERTED + IDLE
    stage["p"] >> error("shutting down", "57P01", "FATAL")
    stage.cancels_arrive = True
    stage.settle()
    assert stage["p"].backend.load == 0


def test_reading_is_stopped_and_resumed_once(stage: Stage) -> None:
    server, transport = stage["p"].connections[0]
    server.set_reading(False)
    server.set_reading(False)
    assert not transport.reading
    server.set_reading(True)
    server.set_reading(True)
    assert transport.reading


def test_a_connection_that_is_gone_is_written_to_in_vain(stage: Stage) -> None:
    server, transport = stage["p"].connections[0]
    server.close()
    stage.settle()
    server.write(b"anything")
    server.set_reading(False)
    assert transport.arrived == b""
    assert server.doomed


def test_what_is_shown_of_it(stage: Stage) -> None:
    server, _ = stage["p"].connections[0]
    assert repr(server) == "<ServerConnection p pid=1 place=1>"
    assert repr(server.backend) == "<Backend p load=0>"
