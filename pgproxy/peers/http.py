"""How proxies talk to each other: by their HTTP ports, which stay open to the very end of a drain.

GET /peer          what it says of itself (word.py)
POST /peer/cancel  {"pid": …, "secret": "hex"}: a CancelRequest for one of its clients. Answered when
                   that has had its effect, by {"found": true} if the client was there and the secret
                   its own. It is never passed on to anybody else

Whoever reaches the HTTP port may ask both, as whoever reaches the other port may send a
CancelRequest: it is the secret that counts.
"""

import errno
import json
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
from aiohttp import web

from pgproxy.peers.word import Address, Word, read_word, word_text

CancelHere = Callable[[int, bytes], Awaitable[bool]]

WORD: Final = "/peer"
CANCEL: Final = "/peer/cancel"
# Seconds: for the connection, for the word, and for a cancel request to have its effect.
_CONNECT: Final = 2.0
_ANSWER: Final = 2.0
_EFFECT: Final = 60.0
# Bytes.
_LONGEST_WORD: Final = 1 << 20
_LONGEST_REQUEST: Final = 2048
# Of a secret: protocol 3.2 has keys of up to 256 bytes.
_LONGEST_SECRET: Final = 256


class PeerError(Exception):
    """No answer, or not that of a proxy. `is_refused`: nobody listens there."""

    def __init__(self, text: str, *, is_refused: bool = False) -> None:
        super().__init__(text)
        self.is_refused: Final = is_refused


class Caller:
    """Asks the others; `close` it."""

    def __init__(self) -> None:
        # A connection that is not kept cannot have died unnoticed.
        self._session: Final = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True), trust_env=False
        )

    async def ask(self, address: Address) -> Word:
        """What it says of itself. Raises PeerError."""
        body = await self._talk("GET", address, WORD, None, _ANSWER)
        word = read_word(body)
        if word is None:
            raise PeerError("it is no pgproxy, or one without [peers]")
        return word

    async def cancel(self, address: Address, pid: int, secret: bytes) -> bool:
        """Whether it had that client, and has cancelled what it did. Raises PeerError."""
        body = json.dumps({"pid": pid, "secret": secret.hex()})
        answer = await self._talk("POST", address, CANCEL, body, _EFFECT)
        try:
            said = json.loads(answer)
        except (ValueError, RecursionError):
            raise PeerError("an answer that is not JSON") from None
        return isinstance(said, dict) and said.get("found") is True

    async def close(self) -> None:
        await self._session.close()

    async def _talk(
        self, method: str, address: Address, path: str, body: str | None, seconds: float
    ) -> bytes:
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT)
        try:
            async with self._session.request(
                method, f"http://{address}{path}", data=body, timeout=limits, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise PeerError(f"HTTP {response.status}")
                return await _read(response)
        except TimeoutError:
            raise PeerError("no answer in time") from None
        except aiohttp.ClientConnectorError as error:
            is_refused = error.os_error.errno == errno.ECONNREFUSED
            raise PeerError(str(error), is_refused=is_refused) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PeerError(str(error) or type(error).__name__) from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _LONGEST_WORD:
            raise PeerError(f"an answer of more than {_LONGEST_WORD} bytes")
    return bytes(body)


def routes(word: Callable[[], Word], cancel_here: CancelHere) -> list[web.RouteDef]:
    """What a proxy answers to the others. `cancel_here` says whether there was such a client."""

    async def tell(_request: web.Request) -> web.Response:
        return web.Response(text=word_text(word()), content_type="application/json")

    async def cancel(request: web.Request) -> web.Response:
        is_short = (request.content_length or 0) <= _LONGEST_REQUEST
        asked = read_request(await request.read()) if is_short else None
        if asked is None:
            return web.Response(status=400, text="no cancel request\n")
        return web.json_response({"found": await cancel_here(*asked)})

    return [web.get(WORD, tell), web.post(CANCEL, cancel)]


def read_request(body: bytes) -> tuple[int, bytes] | None:
    """The process id and the secret; None if it is not a request for a cancel."""
    try:
        asked = json.loads(body)
        pid, secret = asked["pid"], bytes.fromhex(asked["secret"])
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    if not isinstance(pid, int) or not 0 < len(secret) <= _LONGEST_SECRET:
        return None
    return pid, secret
