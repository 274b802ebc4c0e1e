"""Which client a CancelRequest means, where there are several workers or proxies."""

from collections.abc import Callable

import pytest

from pgproxy.clients.cancel import CancelKeys, instance_of, worker_of
from pgproxy.frames.codes import PROTOCOL_3_0, PROTOCOL_3_2


class Client:
    def __init__(self) -> None:
        self.pid = 0
        self.secret = b""
        self.cancelled = 0

    def cancel(self, done: Callable[[], None]) -> None:
        self.cancelled += 1
        done()


@pytest.mark.parametrize("worker", [0, 1, 63])
def test_a_process_id_says_whose_client_it_is(worker: int) -> None:
    async def elsewhere(pid: int, secret: bytes) -> None: ...

    keys = CancelKeys(worker, elsewhere)
    for version, size in ((PROTOCOL_3_0, 4), (PROTOCOL_3_2, 32)):
        pids = set()
        for _ in range(1000):
            pid, secret = keys.add(Client(), version)  # type: ignore[arg-type]
            assert 0 < pid < 1 << 31
            assert worker_of(pid) == worker
            assert len(secret) == size
            pids.add(pid)
        assert len(pids) == 1000


async def test_a_key_of_another_worker_is_passed_on() -> None:
    asked = []

    async def elsewhere(pid: int, secret: bytes) -> None:
        asked.append((pid, secret))

    keys = CancelKeys(2, elsewhere)
    client = Client()
    pid, secret = keys.add(client, PROTOCOL_3_0)  # type: ignore[arg-type]
    await keys.cancel(pid, secret)
    await keys.cancel(pid, b"none")
    assert (client.cancelled, asked) == (1, [])
    for other in (pid ^ 1 << 24, -pid, 5):
        await keys.cancel(other, secret)
    assert [one for one, _ in asked] == [pid ^ 1 << 24, -pid, 5]
    assert client.cancelled == 1


async def test_alone_every_key_is_its_own() -> None:
    keys = CancelKeys()
    client = Client()
    pid, secret = keys.add(client, PROTOCOL_3_0)  # type: ignore[arg-type]
    await keys.cancel(pid ^ 1 << 29, secret)
    await keys.cancel(pid, secret)
    assert client.cancelled == 1
    keys.remove(client)  # type: ignore[arg-type]
    assert len(keys) == 0


@pytest.mark.parametrize("worker", [None, 0, 63])
@pytest.mark.parametrize("instance", [0, 1, 255])
def test_a_process_id_says_whose_proxys_client_it_is(instance: int, worker: int | None) -> None:
    async def elsewhere(pid: int, secret: bytes) -> None: ...

    keys = CancelKeys(worker, elsewhere, instance)
    pids = set()
    for _ in range(1000):
        pid, secret = keys.add(Client(), PROTOCOL_3_0)  # type: ignore[arg-type]
        assert 0 < pid < 1 << 31
        assert instance_of(pid) == instance
        assert worker is None or worker_of(pid, has_peers=True) == worker
        assert len(secret) == 4
        pids.add(pid)
    assert len(pids) == 1000


async def test_what_is_no_client_here_may_be_one_of_another_proxy() -> None:
    """Of the same instance, too. What another one asks is not passed on again."""
    asked = []

    async def elsewhere(pid: int, secret: bytes) -> None:
        asked.append((pid, secret))

    keys = CancelKeys(None, elsewhere, 200)
    client = Client()
    pid, secret = keys.add(client, PROTOCOL_3_2)  # type: ignore[arg-type]
    await keys.cancel(pid, secret)
    assert (client.cancelled, asked) == (1, [])
    others = [(pid, b"none"), (pid ^ 1, secret), (pid ^ 1 << 23, secret), (-pid, secret)]
    for key in others:
        await keys.cancel(*key)
    assert asked == others
    assert await keys.cancel_here(pid, secret)
    for key in others:
        assert not await keys.cancel_here(*key)
    assert asked == others
    assert client.cancelled == 2
