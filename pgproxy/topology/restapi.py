"""GETs of Patroni's REST API, over HTTP or HTTPS."""

import ssl
from typing import Final

import aiohttp

import pgproxy
from pgproxy import config
from pgproxy.topology.apiserver import ApiError, api_error, describe, read, refusal
from pgproxy.topology.schedule import Outcome

# Bytes: a member is some 300 of them.
_LONGEST_ANSWER: Final = 4 << 20


class RestApi:
    """A session; `close` it. Certificates are read anew after they may have been refused."""

    def __init__(self, settings: config.Patroni) -> None:
        self._settings: Final = settings
        self._session: aiohttp.ClientSession | None = None
        self._context: ssl.SSLContext | None = None  # made when first needed

    async def get(self, url: str) -> bytes:
        """The body of a 200. Raises ApiError."""
        if self._session is None:
            self._session = self._open()
        tls: ssl.SSLContext | bool = True  # as aiohttp has it
        if url.startswith("https:"):
            tls = self._context = self._context or self._make_context()
        try:
            async with self._session.get(url, allow_redirects=False, ssl=tls) as response:
                return await _body(response)
        except Exception as error:
            failed = api_error(error)
            # In TLS 1.3 a refusal of ours comes as an end of the connection.
            if failed.outcome in (Outcome.TLS, Outcome.UNREACHABLE):
                self._context = None
            raise failed from error

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            # What is not kept cannot have died unnoticed.
            connector=aiohttp.TCPConnector(force_close=True),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout),
            headers={"User-Agent": f"pgproxy/{pgproxy.__version__}"},
        )

    def _make_context(self) -> ssl.SSLContext:
        settings = self._settings
        try:
            context = ssl.create_default_context(cafile=settings.ca_file)
            if settings.cert_file is not None:
                # Without a password OpenSSL would ask for it at the terminal, and all stand still.
                context.load_cert_chain(settings.cert_file, settings.key_file, password="")
        except OSError as error:  # ssl.SSLError is one
            raise ApiError(Outcome.CREDENTIALS, describe(error)) from error
        if not settings.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


async def _body(response: aiohttp.ClientResponse) -> bytes:
    if response.status != 200:
        raise await refusal(response)
    return await read(response, _LONGEST_ANSWER)
