"""How kube-apiserver treats a client that lists and watches pods. The fake must do the same.

    class TestTheRealOne(KubeContract): ...    with a fixture `kube_api`

Nothing of pgproxy is in it: bare HTTP, as a client sees it.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from tests.support.kube import KubeApi, client

Event = dict[str, Any]

_SOON: Final = 20.0  # seconds in which a busy machine does anything


class Stream:
    """The lines of one watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response: Final = response

    async def line(self) -> bytes:
        """The next one as it came; b"" at the end."""
        async with asyncio.timeout(_SOON):
            return await self._response.content.readline()

    async def event(self) -> Event:
        line = await self.line()
        assert line.endswith(b"\n"), line
        event: Event = json.loads(line)
        return event

    async def events(self, count: int) -> list[Event]:
        return [await self.event() for _ in range(count)]

    async def rest(self) -> list[Event]:
        """Until the server ends it."""
        found = []
        while line := await self.line():
            found.append(json.loads(line))
        return found


class Reader:
    """One who lists and watches pods with one token."""

    def __init__(self, api: KubeApi, session: aiohttp.ClientSession) -> None:
        self.session: Final = session
        self._api: Final = api

    def path(self, rest: str = "pods", namespace: str | None = None) -> str:
        return f"{self._api.url}/api/v1/namespaces/{namespace or self._api.namespace}/{rest}"

    async def get(self, url: str = "", **query: str) -> tuple[int, dict[str, Any]]:
        async with self.session.get(url or self.path(), params=query) as response:
            return response.status, await response.json()

    async def list(self, **query: str) -> dict[str, Any]:
        status, body = await self.get(**query)
        assert status == 200, body
        return body

    async def version(self) -> str:
        version: str = (await self.list())["metadata"]["resourceVersion"]
        return version

    @asynccontextmanager
    async def watch(self, version: str = "", **query: str) -> AsyncIterator[Stream]:
        query = {"watch": "true", "timeoutSeconds": "60"} | query
        if version:
            query["resourceVersion"] = version
        async with self.session.get(self.path(), params=query) as response:
            assert response.status == 200, await response.text()
            try:
                yield Stream(response)
            finally:
                if response.connection is not None and response.connection.transport is not None:
                    response.connection.transport.abort()  # no farewell: more may be coming


def names(body: dict[str, Any]) -> list[str]:
    return [pod["metadata"]["name"] for pod in body["items"]]


def kinds(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]


def version_of(event: Event) -> str:
    version: str = event["object"]["metadata"]["resourceVersion"]
    return version


def check_status(body: dict[str, Any], code: int, reason: str) -> None:
    assert body["kind"] == "Status"
    assert body["apiVersion"] == "v1"
    assert body["status"] == "Failure"
    assert (body["code"], body["reason"]) == (code, reason)
    assert body["message"]


class KubeContract:
    @pytest_asyncio.fixture
    async def reader(self, kube_api: KubeApi) -> AsyncIterator[Reader]:
        async with client(kube_api, await kube_api.token()) as session:
            yield Reader(kube_api, session)

    async def test_a_list_has_a_version_and_the_pods(
        self, kube_api: KubeApi, reader: Reader
    ) -> None:
        await kube_api.create_pod("pg-1", {"role": "replica"}, ip="127.0.0.3", ready=False)
        await kube_api.create_pod("pg-0", {"role": "primary"}, ip="127.0.0.2", port=6432)
        body = await reader.list()
        assert (body["kind"], body["apiVersion"]) == ("PodList", "v1")
        assert int(body["metadata"]["resourceVersion"])
        assert names(body) == ["pg-0", "pg-1"]
        pod, other = body["items"]
        assert "kind" not in pod
        assert pod["metadata"]["namespace"] == kube_api.namespace
        assert pod["metadata"]["labels"] == {"role": "primary"}
        assert "deletionTimestamp" not in pod["metadata"]
        assert pod["status"]["phase"] == "Running"
        assert pod["status"]["podIP"] == "127.0.0.2"
        assert pod["status"]["podIPs"] == [{"ip": "127.0.0.2"}]
        ((_, ready),) = [(c["type"], c["status"]) for c in pod["status"]["conditions"]]
        assert ready == "True"
        assert [c["status"] for c in other["status"]["conditions"]] == ["False"]
        (container,) = pod["spec"]["containers"]
        assert container["ports"] == [
            {"name": "postgresql", "containerPort": 6432, "protocol": "TCP"}
        ]
        assert pod["metadata"]["uid"] != other["metadata"]["uid"]

    async def test_a_list_of_nothing_has_no_items(self, reader: Reader) -> None:
        assert (await reader.list())["items"] == []

    async def test_a_pod_made_anew_has_another_uid(self, kube_api: KubeApi) -> None:
        before = await kube_api.create_pod("pg-0", {})
        await kube_api.delete_pod("pg-0")
        after = await kube_api.create_pod("pg-0", {})
        assert before["metadata"]["uid"] != after["metadata"]["uid"]

    async def test_the_life_of_a_pod(self, kube_api: KubeApi, reader: Reader) -> None:
        async with reader.watch(await reader.version()) as stream:
            await kube_api.create_pod("pg-0", {"role": "replica"}, ip="127.0.0.2")
            await kube_api.patch_labels("pg-0", {"role": "primary", "x": "y"})
            await kube_api.patch_labels("pg-0", {"x": None})
            await kube_api.patch_annotations("pg-0", {"status": "z"})
            await kube_api.set_status("pg-0", ready=False)
            await kube_api.terminate_pod("pg-0")
            await kube_api.set_status("pg-0", ip="127.0.0.9", phase="Failed")
            await kube_api.delete_pod("pg-0")
            events = await stream.events(10)
        made, started, labelled, without, annotated, unready, leaving, failed, last, gone = (
            event["object"] for event in events
        )
        assert kinds(events) == ["ADDED"] + 8 * ["MODIFIED"] + ["DELETED"]
        assert {(pod["kind"], pod["apiVersion"]) for pod in (made, gone)} == {("Pod", "v1")}
        assert "podIP" not in made["status"]
        assert made["status"]["phase"] == "Pending"
        assert started["status"]["podIP"] == "127.0.0.2"
        assert labelled["metadata"]["labels"] == {"role": "primary", "x": "y"}
        assert without["metadata"]["labels"] == {"role": "primary"}
        assert annotated["metadata"]["annotations"] == {"status": "z"}
        assert [c["status"] for c in unready["status"]["conditions"]] == ["False"]
        assert unready["status"]["podIP"] == "127.0.0.2"
        assert "deletionTimestamp" not in unready["metadata"]
        assert leaving["metadata"]["deletionTimestamp"]
        assert (failed["status"]["podIP"], failed["status"]["phase"]) == ("127.0.0.9", "Failed")
        assert leaving["metadata"]["deletionGracePeriodSeconds"] == 30
        assert last["metadata"]["deletionGracePeriodSeconds"] == 0
        assert gone["metadata"]["name"] == "pg-0"
        assert gone["metadata"]["deletionTimestamp"]
        versions = [version_of(event) for event in events]
        assert len(set(versions)) == 10
        assert sorted(versions, key=int) == versions

    @pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Running"])
    async def test_a_pod_that_is_made_to_vanish_is_terminating_first(
        self, kube_api: KubeApi, reader: Reader, phase: str
    ) -> None:
        await kube_api.create_pod("pg-0", {}, phase=phase)
        async with reader.watch(await reader.version()) as stream:
            if phase == "Running":
                await kube_api.delete_pod("pg-0")
            else:  # there is nothing left to wait for
                await kube_api.terminate_pod("pg-0")
            leaving, gone = await stream.events(2)
        assert kinds([leaving, gone]) == ["MODIFIED", "DELETED"]
        assert leaving["object"]["metadata"]["deletionTimestamp"]
        assert leaving["object"]["metadata"]["deletionGracePeriodSeconds"] == 0
        assert (await reader.list())["items"] == []

    async def test_a_patch_that_changes_nothing_is_no_event(
        self, kube_api: KubeApi, reader: Reader
    ) -> None:
        await kube_api.create_pod("pg-0", {"role": "primary"})
        async with reader.watch(await reader.version()) as stream:
            await kube_api.patch_labels("pg-0", {"role": "primary"})
            await kube_api.patch_labels("pg-0", {"role": "replica"})
            assert (await stream.event())["object"]["metadata"]["labels"] == {"role": "replica"}

    @pytest.mark.parametrize(
        ("selector", "found"),
        [
            ("role=primary", ["a"]),
            ("role==primary", ["a"]),
            ("role!=primary", ["b", "c"]),
            ("role in (primary,replica)", ["a", "b"]),
            ("role in (primary, replica),db.example/x=1", ["b"]),
            ("role notin (primary)", ["b", "c"]),
            ("db.example/x", ["b"]),
            ("!db.example/x", ["a", "c"]),
            ("role=primary,role=replica", []),
            ("role,!db.example/x", ["a"]),
            ("", ["a", "b", "c"]),
        ],
    )
    async def test_label_selectors(
        self, kube_api: KubeApi, reader: Reader, selector: str, found: list[str]
    ) -> None:
        await kube_api.create_pod("a", {"role": "primary"})
        await kube_api.create_pod("b", {"role": "replica", "db.example/x": "1"})
        await kube_api.create_pod("c", {})
        assert names(await reader.list(labelSelector=selector)) == found
        async with reader.watch(labelSelector=selector) as stream:
            events = await stream.events(len(found))
        assert sorted(event["object"]["metadata"]["name"] for event in events) == found

    async def test_a_selector_that_is_none_is_refused(self, reader: Reader) -> None:
        status, body = await reader.get(labelSelector="role in primary")
        assert status == 400
        check_status(body, 400, "BadRequest")

    async def test_a_pod_that_leaves_the_selector_is_deleted_with_its_old_labels(
        self, kube_api: KubeApi, reader: Reader
    ) -> None:
        await kube_api.create_pod("pg-0", {"role": "primary"})
        version = await reader.version()
        async with reader.watch(version, labelSelector="role=primary") as stream:
            await kube_api.patch_labels("pg-0", {"role": "replica"})
            left = await stream.event()
            await kube_api.patch_annotations("pg-0", {"not": "seen"})
            await kube_api.patch_labels("pg-0", {"role": "primary"})
            back = await stream.event()
        assert (left["type"], left["object"]["metadata"]["labels"]) == (
            "DELETED",
            {"role": "primary"},
        )
        assert int(version_of(left)) > int(version)
        assert (back["type"], back["object"]["metadata"]["labels"]) == (
            "ADDED",
            {"role": "primary"},
        )

    async def test_a_watch_goes_on_after_the_version_it_names(
        self, kube_api: KubeApi, reader: Reader
    ) -> None:
        await kube_api.create_pod("pg-0", {"n": "0"})
        version = await reader.version()
        for number in "123":
            await kube_api.patch_labels("pg-0", {"n": number})
        async with reader.watch(version) as stream:
            events = await stream.events(3)
        assert [event["object"]["metadata"]["labels"]["n"] for event in events] == ["1", "2", "3"]
        async with reader.watch(version_of(events[1])) as stream:
            assert await stream.event() == events[2]

    async def test_a_watch_without_a_version_begins_with_what_is_there(
        self, kube_api: KubeApi, reader: Reader
    ) -> None:
        await kube_api.create_pod("pg-0", {})
        await kube_api.create_pod("pg-1", {})
        async with reader.watch() as stream:
            first = await stream.events(2)
            await kube_api.patch_labels("pg-0", {"a": "b"})
            then = await stream.event()
        assert kinds([*first, then]) == ["ADDED", "ADDED", "MODIFIED"]
        assert {event["object"]["metadata"]["name"] for event in first} == {"pg-0", "pg-1"}

    async def test_other_namespaces_are_not_seen(self, kube_api: KubeApi, reader: Reader) -> None:
        version = await reader.version()
        await kube_api.create_pod("far", {}, namespace=kube_api.elsewhere)
        await kube_api.create_pod("near", {})
        assert names(await reader.list()) == ["near"]
        async with reader.watch(version) as stream:
            assert (await stream.event())["object"]["metadata"]["name"] == "near"

    async def test_the_server_ends_a_watch_at_its_timeout(self, reader: Reader) -> None:
        began = asyncio.get_running_loop().time()
        async with reader.watch(await reader.version(), timeoutSeconds="1") as stream:
            assert await stream.rest() == []
        assert asyncio.get_running_loop().time() - began >= 0.9

    async def test_a_bookmark_before_the_end_tells_how_far_it_went(
        self, kube_api: KubeApi, reader: Reader
    ) -> None:
        await kube_api.create_pod("pg-0", {"n": "0"})
        version = await reader.version()
        query = {"timeoutSeconds": "5", "allowWatchBookmarks": "true"}
        async with reader.watch(version, labelSelector="n=0", **query) as stream:
            await kube_api.create_pod("pg-1", {"n": "1"})
            events = await stream.rest()
        assert set(kinds(events)) == {"BOOKMARK"}
        told = events[-1]["object"]
        assert told["kind"] == "Pod"
        assert told["spec"]["containers"] is None
        assert "name" not in told["metadata"]
        assert int(version_of(events[-1])) > int(version)
        async with reader.watch(version_of(events[-1])) as stream:
            await kube_api.patch_labels("pg-1", {"n": "2"})
            assert (await stream.event())["object"]["metadata"]["labels"] == {"n": "2"}

    async def test_no_bookmarks_for_one_who_did_not_ask(
        self, kube_api: KubeApi, reader: Reader
    ) -> None:
        await kube_api.create_pod("pg-0", {"n": "0"})
        version = await reader.version()
        async with reader.watch(version, labelSelector="n=0", timeoutSeconds="4") as stream:
            await kube_api.create_pod("pg-1", {"n": "1"})
            assert await stream.rest() == []

    async def test_a_long_list_comes_in_pages(self, kube_api: KubeApi, reader: Reader) -> None:
        for number in range(5):
            await kube_api.create_pod(f"pg-{number}", {})
        pages = [await reader.list(limit="2")]
        while token := pages[-1]["metadata"].get("continue"):
            pages.append(await reader.list(**{"limit": "2", "continue": token}))
        assert [names(page) for page in pages] == [["pg-0", "pg-1"], ["pg-2", "pg-3"], ["pg-4"]]
        assert len({page["metadata"]["resourceVersion"] for page in pages}) == 1

    async def test_a_large_pod_is_one_line(self, kube_api: KubeApi, reader: Reader) -> None:
        await kube_api.create_pod("pg-0", {})
        async with reader.watch(await reader.version()) as stream:
            await kube_api.patch_annotations("pg-0", {"large": 200_000 * "x"})
            assert len(await stream.line()) > 200_000

    async def test_a_token_that_is_none_is_401(self, kube_api: KubeApi) -> None:
        async with client(kube_api, "nonsense") as session:
            for query in ({}, {"watch": "true"}):
                status, body = await Reader(kube_api, session).get(**query)
                assert status == 401
                check_status(body, 401, "Unauthorized")

    async def test_a_token_of_before_is_401_after_they_were_revoked(
        self, kube_api: KubeApi
    ) -> None:
        token = await kube_api.token()
        await kube_api.revoke_tokens()
        async with client(kube_api, token) as session:
            status, _ = await Reader(kube_api, session).get()
        assert status == 401
        async with client(kube_api, await kube_api.token()) as session:
            await Reader(kube_api, session).list()

    async def test_a_token_that_expired_is_401(self, kube_api: KubeApi) -> None:
        token = await kube_api.token(lifetime=-1)
        async with client(kube_api, token) as session:
            status, _ = await Reader(kube_api, session).get()
        assert status == 401

    async def test_nothing_but_listing_and_watching_pods_is_allowed(
        self, kube_api: KubeApi, reader: Reader
    ) -> None:
        await kube_api.create_pod("pg-0", {})
        await reader.list()
        urls = ["pods/pg-0", "secrets", "configmaps", "pods/pg-0/log", "endpoints"]
        for url in urls:
            status, body = await reader.get(reader.path(url))
            assert status == 403, url
            check_status(body, 403, "Forbidden")
            assert kube_api.namespace in body["message"]
        for query in ({}, {"watch": "true"}):
            status, body = await reader.get(reader.path("pods", kube_api.elsewhere), **query)
            assert status == 403
            check_status(body, 403, "Forbidden")
        status, _ = await reader.get(f"{kube_api.url}/api/v1/pods")
        assert status == 403
        async with reader.session.delete(reader.path("pods/pg-0")) as response:
            assert response.status == 403
        assert names(await reader.list()) == ["pg-0"]

    async def test_nobody_is_forbidden(self, kube_api: KubeApi) -> None:
        async with client(kube_api, "") as session:
            status, body = await Reader(kube_api, session).get()
        assert status == 403
        check_status(body, 403, "Forbidden")
        assert "system:anonymous" in body["message"]

    async def test_a_list_from_the_future_is_504(self, reader: Reader) -> None:
        version = int(await reader.version()) + 1_000_000
        status, body = await reader.get(resourceVersion=str(version))
        assert status == 504
        check_status(body, 504, "Timeout")

    async def test_a_watch_from_the_future_is_silent(
        self, kube_api: KubeApi, reader: Reader
    ) -> None:
        version = int(await reader.version()) + 1_000_000
        async with reader.watch(str(version), timeoutSeconds="2") as stream:
            await kube_api.create_pod("pg-0", {})
            assert await stream.rest() == []

    async def test_a_version_that_was_compacted_is_410_in_the_stream(
        self, kube_api: KubeApi, reader: Reader
    ) -> None:
        version = await reader.version()
        await kube_api.create_pod("pg-0", {})
        await kube_api.compact()
        async with reader.watch(version) as stream:
            (event,) = await stream.rest()
        assert event["type"] == "ERROR"
        check_status(event["object"], 410, "Expired")
        assert names(await reader.list()) == ["pg-0"]

    async def test_stopped_and_started_it_has_its_pods_but_no_history(
        self, kube_api: KubeApi, reader: Reader
    ) -> None:
        version = await reader.version()
        pod = await kube_api.create_pod("pg-0", {})
        async with reader.watch(version) as stream:
            await stream.events(2)
            await kube_api.stop()
            with contextlib.suppress(aiohttp.ClientError):  # or it ends in good order
                assert await stream.line() == b""
        with pytest.raises(aiohttp.ClientConnectorError):
            await reader.list()
        await kube_api.start()
        body = await reader.list()
        assert [one["metadata"]["uid"] for one in body["items"]] == [pod["metadata"]["uid"]]
        async with reader.watch(version) as stream:
            (event,) = await stream.rest()
        check_status(event["object"], 410, "Expired")

    async def test_a_history_that_was_lost_begins_lower(
        self, kube_api: KubeApi, reader: Reader
    ) -> None:
        for number in range(50):
            await kube_api.create_pod(f"pg-{number}", {})
        version = await reader.version()
        await kube_api.stop()
        await kube_api.start(history_lost=True)
        status, _ = await reader.get()
        assert status == 401
        async with client(kube_api, await kube_api.token()) as session:
            anew = Reader(kube_api, session)
            assert (await anew.list())["items"] == []
            assert int(await anew.version()) < int(version)

    async def test_frozen_it_says_nothing_and_goes_on_when_thawed(
        self, kube_api: KubeApi, reader: Reader
    ) -> None:
        await kube_api.create_pod("pg-0", {})
        async with reader.watch(await reader.version()) as stream:
            await kube_api.freeze()
            try:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1):
                        await reader.list()
            finally:
                await kube_api.thaw()
            await kube_api.patch_labels("pg-0", {"a": "b"})
            assert (await stream.event())["object"]["metadata"]["labels"] == {"a": "b"}

    async def test_requests_are_logged(self, kube_api: KubeApi, reader: Reader) -> None:
        version = await reader.version()
        async with reader.watch(version, timeoutSeconds="1") as stream:
            await stream.rest()
        async with client(kube_api, "nonsense") as session:
            await Reader(kube_api, session).get(labelSelector="a=b")
        log = await kube_api.request_log()
        assert [(request.verb, request.status) for request in log] == [
            ("list", 200),
            ("watch", 200),
            ("list", 401),
        ]
        assert log[1].query["resourceVersion"] == version
        assert log[2].query == {"labelSelector": "a=b"}
        assert log[2].at - log[1].at > 0.9
