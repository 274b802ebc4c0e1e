"""Patroni's members as far as their REST API goes: each answers what the test has it say.

Real ones are in tests/extra/test_discovery.py; these are for what cannot be had from them at will.
"""

import asyncio
import ssl
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

HOST: Final = "127.0.0.1"


class FakeMember:
    """One member's REST API. `said` is what it answers, `status` with which code."""

    def __init__(self, name: str, cluster: "FakeMembers") -> None:
        self.name: Final = name
        self.url = ""
        self.status = 200
        self.said: bytes | None = None  # instead of the truth
        self.hangs = False
        self.headers: dict[str, str] = {}
        self.asked = 0
        self._cluster: Final = cluster
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self) -> None:
        """Listen, on the port of before if there was one."""
        app = web.Application()
        app.router.add_get("/cluster", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        tls = self._cluster.tls
        site = web.TCPSite(self._runner, HOST, self._port, ssl_context=tls, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"{'http' if tls is None else 'https'}://{HOST}:{self._port}"

    async def stop(self) -> None:
        """Refuse connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(60)
        if self.said is not None:
            return web.Response(status=self.status, body=self.said, headers=self.headers)
        return web.json_response(self._cluster.view(), status=self.status, headers=self.headers)


class FakeMembers:
    """A cluster with these members, the first of which leads; a context manager."""

    def __init__(self, names: Iterable[str], *, tls: ssl.SSLContext | None = None) -> None:
        self.tls: Final = tls
        self.members: Final = {name: FakeMember(name, self) for name in names}
        self.leader = next(iter(self.members))
        self.timeline = 1
        self.scope = "demo"
        self.changes: dict[str, dict[str, object]] = {}  # of entries, by name

    def __getitem__(self, name: str) -> FakeMember:
        return self.members[name]

    async def __aenter__(self) -> Self:
        for member in self.members.values():
            await member.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for member in self.members.values():
            await member.stop()

    def view(self) -> dict[str, Any]:
        """The truth."""
        entries = [
            {
                "name": name,
                "role": "leader" if name == self.leader else "replica",
                "state": "running" if name == self.leader else "streaming",
                "api_url": f"{member.url}/patroni",
                "host": HOST,
                "port": 7000 + number,
                "timeline": self.timeline,
                **self.changes.get(name, {}),
            }
            for number, (name, member) in enumerate(self.members.items())
        ]
        return {"members": entries, "scope": self.scope}
