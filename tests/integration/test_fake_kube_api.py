"""The fake API server keeps the contract that the real one has shown, and its faults are as told."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.fakes.kube_api import FakeKubeApi
from tests.fakes.kube_selectors import parse_selector
from tests.support.kube import client
from tests.support.kube_contract import KubeContract, Reader, check_status, kinds, names
from tests.support.kube_writing import WritingContract

pytestmark = pytest.mark.once


@pytest_asyncio.fixture
async def kube_api() -> AsyncIterator[FakeKubeApi]:
    async with FakeKubeApi() as api:
        yield api


@pytest_asyncio.fixture
async def reader(kube_api: FakeKubeApi) -> AsyncIterator[Reader]:
    async with client(kube_api, await kube_api.token()) as session:
        yield Reader(kube_api, session)


class TestTheFake(KubeContract):
    pass


async def test_what_it_does_not_know_is_refused(reader: Reader) -> None:
    status, _ = await reader.get(fieldSelector="metadata.name=x")
    assert status == 501


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (410, "Expired"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
        (504, "Timeout"),
    ],
)
async def test_requests_are_refused(
    kube_api: FakeKubeApi, reader: Reader, status: int, reason: str
) -> None:
    kube_api.answer_with(status, verb="watch", times=1)
    kube_api.answer_with(status, verb="list", times=2, retry_after=3)
    for _ in range(2):
        async with reader.session.get(reader.path()) as response:
            assert (response.status, response.headers["Retry-After"]) == (status, "3")
            check_status(await response.json(), status, reason)
    await reader.list()
    assert (await reader.get(watch="true"))[0] == status
    async with reader.watch():
        pass
    assert [request.status for request in kube_api.requests] == [status, status, 200, status, 200]


async def test_refusals_are_for_all_until_healed(kube_api: FakeKubeApi, reader: Reader) -> None:
    kube_api.answer_with(503)
    assert (await reader.get())[0] == (await reader.get(watch="true"))[0] == 503
    kube_api.heal()
    await reader.list()


@pytest.mark.parametrize("open_already", [True, False])
async def test_how_watches_end(
    kube_api: FakeKubeApi, reader: Reader, *, open_already: bool
) -> None:
    async def ended(how: str) -> list[bytes]:
        if not open_already:
            kube_api.faults.every_watch_ends = how
        async with reader.watch(timeoutSeconds="60") as stream:
            if open_already:
                kube_api.end_watches(how)
            lines = []
            while line := await stream.line():
                lines.append(line)
            return lines

    assert await ended("eof") == []
    (part,) = await ended("cut")
    assert not part.endswith(b"\n")
    (error,) = await ended("expired")
    assert b'"code":410' in error
    with pytest.raises(aiohttp.ClientError):
        await ended("reset")


async def test_anything_can_be_said_in_a_watch(kube_api: FakeKubeApi, reader: Reader) -> None:
    async with reader.watch(await reader.version()) as stream:
        assert kube_api.watches == 1
        kube_api.send({"type": "NEWS", "object": {}})
        kube_api.send(b"not JSON\n")
        kube_api.send_error(500)
        kube_api.send_error(410, "Gone")
        assert (await stream.event())["type"] == "NEWS"
        assert await stream.line() == b"not JSON\n"
        nameless, gone = await stream.events(2)
        assert (nameless["type"], nameless["object"]["code"]) == ("ERROR", 500)
        assert "reason" not in nameless["object"]
        check_status(gone["object"], 410, "Gone")


async def test_a_drip(kube_api: FakeKubeApi, reader: Reader) -> None:
    kube_api.faults.drip = 0.01
    await kube_api.create_pod("pg-0", {"large": 2000 * "x"})
    began = time.monotonic()
    async with reader.watch() as stream:
        assert len(await stream.line()) > 2000
    assert time.monotonic() - began > 0.19


async def test_history_is_bounded(reader: Reader) -> None:
    async with FakeKubeApi(history=4) as api, client(api, await api.token()) as session:
        reader = Reader(api, session)
        await api.create_pod("pg-0", {})
        version = await reader.version()
        for number in range(4):
            await api.patch_labels("pg-0", {"n": str(number)})
        async with reader.watch(version) as stream:
            assert kinds(await stream.events(4)) == 4 * ["MODIFIED"]
        await api.patch_labels("pg-0", {"n": "5"})
        async with reader.watch(version) as stream:
            (event,) = await stream.rest()
        assert event["type"] == "ERROR"


async def test_bookmarks_come_at_their_interval() -> None:
    async with (
        FakeKubeApi(bookmark_interval=0.1) as api,
        client(api, await api.token()) as session,
    ):
        reader = Reader(api, session)
        version = await reader.version()
        async with reader.watch(version, allowWatchBookmarks="true", labelSelector="a") as stream:
            await api.create_pod("pg-0", {})
            assert (await stream.event())["type"] == "BOOKMARK"
            await api.create_pod("pg-1", {})
            assert (await stream.event())["type"] == "BOOKMARK"


async def test_history_lost_while_it_runs_leaves_watches_silent(
    kube_api: FakeKubeApi, reader: Reader
) -> None:
    await kube_api.create_pod("pg-0", {})
    async with reader.watch(await reader.version(), timeoutSeconds="1") as stream:
        kube_api.lose_history()
        await kube_api.create_pod("pg-1", {})
        assert await stream.rest() == []
    async with client(kube_api, await kube_api.token()) as session:
        assert names(await Reader(kube_api, session).list()) == ["pg-1"]


async def test_the_authority_is_replaced(kube_api: FakeKubeApi, reader: Reader) -> None:
    async with client(kube_api, await kube_api.token()) as old:
        kube_api.rotate_ca()
        with pytest.raises(aiohttp.ClientConnectorCertificateError) as raised:
            await Reader(kube_api, old).list()
        assert isinstance(raised.value.certificate_error, ssl.SSLCertVerificationError)
    async with client(kube_api, await kube_api.token()) as session:
        await Reader(kube_api, session).list()


async def test_one_waits_for_a_watch(kube_api: FakeKubeApi, reader: Reader) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(kube_api.watched())
        await reader.list()
        assert not waiting.done()
        async with reader.watch():
            await waiting


@pytest.mark.parametrize("text", ["a in b", "a=b c=d", "=b", "a in (b", "!", "a,,b", "a>1"])
def test_what_is_no_selector(text: str) -> None:
    with pytest.raises(ValueError, match="no label selector"):
        parse_selector(text)


LABEL_RIGHTS = frozenset(
    {("patch", "pods"), ("get", "leases"), ("create", "leases"), ("update", "leases")}
)


class TestWritingToTheFake(WritingContract):
    @pytest.fixture
    def label_api(self, kube_api: FakeKubeApi) -> FakeKubeApi:
        kube_api.rights.update(LABEL_RIGHTS)
        return kube_api
