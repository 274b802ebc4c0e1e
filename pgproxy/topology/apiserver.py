"""The connection to the Kubernetes API server: one request at a time, its answer as it came.

Of the official client come configuration, credentials, TLS and the making of a request: a service
account in a pod, or a kubeconfig with all that may stand in one. The requests go through a session
of our own: no redirects (each would be a request that nobody counted), no proxy of the
environment, one connection for each request (what is not kept cannot have died unnoticed, and
aiohttp repeats what fails on a kept one). The client is imported when first used: it costs some
0.3 s and 20 MB.
"""

# ruff: noqa: PLC0415 - see the last sentence above

import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import hdrs

import pgproxy
from pgproxy.config import Kubernetes
from pgproxy.topology.podstore import Page, message_of, read_page
from pgproxy.topology.schedule import Outcome

_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_DEFAULT_NAMESPACE: Final = "default"
# Bytes: what may be buffered. An object in etcd has at most 1.5 MiB, escaped as JSON a bit more.
_READ_BUFFER: Final = 2 << 20
# Seconds until a connection must be there, before TLS.
_CONNECT_TIMEOUT: Final = 5.0
# Seconds of silence before keepalives, between them, and their number; then until data that is not
# acknowledged breaks the connection (in ms for the kernel).
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
_USER_TIMEOUT_MS: Final = 20_000
# Who has sent no credentials, or a certificate that counts for nothing (RBAC refuses it by name).
_NOBODY: Final = '"system:anonymous"'
# Bytes that are read of an answer that is no success, of one object, and of a list.
_LONGEST_REFUSAL: Final = 1 << 20
LONGEST_OBJECT: Final = 8 << 20
_LONGEST_LIST: Final = 64 << 20
# A list is asked for whole; a server that gives it in pages ends it before this.
_MOST_PAGES: Final = 50

PODS: Final = "/api/v1/namespaces/{namespace}/pods"

_STATUS: Final = {
    401: Outcome.UNAUTHORIZED,
    403: Outcome.FORBIDDEN,
    410: Outcome.GONE,
    429: Outcome.THROTTLED,
}


_ADVICE: Final = {
    Outcome.FORBIDDEN: "namespace {namespace} needs a Role that allows {rights}, and a RoleBinding of"
    " it to the proxy's ServiceAccount",
    Outcome.UNAUTHORIZED: "the token: is the ServiceAccount's mounted, and of this cluster? With a"
    " kubeconfig: its user, and the program that gives the token",
    Outcome.UNREACHABLE: "the address, and that a NetworkPolicy lets the proxy reach it",
    Outcome.SILENT: "that a NetworkPolicy lets the proxy reach the address",
    Outcome.TLS: "that the certificate is by the authority of ca.crt or of the kubeconfig",
    Outcome.CREDENTIALS: "in a pod automountServiceAccountToken, elsewhere"
    " discovery.kubernetes.kubeconfig",
    Outcome.REJECTED: "discovery.kubernetes.selector, and that this is an API server",
    Outcome.GARBLED: "that this is an API server",
}


class ApiError(Exception):
    """A request that failed: `outcome` says why, in general; seconds that it asks us to wait; the
    status of HTTP, or 0 if there was no answer."""

    def __init__(
        self, outcome: Outcome, message: str, retry_after: float = 0.0, status: int = 0
    ) -> None:
        super().__init__(message)
        self.outcome: Final = outcome
        self.retry_after: Final = retry_after
        self.status: Final = status


def load_client() -> None:
    """Import the client now, where its time shall not be that of the first request."""
    import kubernetes.aio.client
    import kubernetes.aio.config  # noqa: F401


def own_namespace() -> str:
    """The pod's own, as its service account's files say; "default" where there are none."""
    try:
        text = _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return _DEFAULT_NAMESPACE
    return text or _DEFAULT_NAMESPACE


class ApiServer:
    """Credentials as they were when it was opened, and a session; `close` it."""

    def __init__(self, client: Any, session: aiohttp.ClientSession, namespace: str) -> None:
        self.address: Final = _without_password(str(client.configuration.host))
        self._client: Final = client  # kubernetes.aio.client.ApiClient
        self._session: Final = session
        self._namespace: Final = namespace

    @classmethod
    async def open(cls, settings: Kubernetes, namespace: str) -> "ApiServer":
        """Read the credentials; no connection is made. Raises ApiError if they cannot be had."""
        from kubernetes.aio import config
        from kubernetes.aio.client import ApiClient, Configuration

        configuration = Configuration()
        try:
            if settings.kubeconfig is None:
                config.load_incluster_config(configuration)
            else:
                await config.load_kube_config(
                    str(settings.kubeconfig),
                    context=settings.context or None,
                    client_configuration=configuration,
                    persist_config=False,
                )
            client = ApiClient(configuration)
        except Exception as error:  # a kubeconfig is anybody's YAML
            raise ApiError(Outcome.CREDENTIALS, describe(error)) from error
        client.user_agent = f"pgproxy/{pgproxy.__version__}"
        connector = aiohttp.TCPConnector(
            ssl=client.rest_client.ssl_context, force_close=True, socket_factory=_socket
        )
        session = aiohttp.ClientSession(
            connector=connector, trust_env=False, read_bufsize=_READ_BUFFER
        )
        return cls(client, session, namespace)

    async def pods(self, query: Mapping[str, str]) -> aiohttp.ClientResponse:
        """A GET of pods, as `send`."""
        return await self.send("GET", PODS, query=query)

    async def send(
        self,
        method: str,
        path: str,
        *,
        name: str = "",
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        """One request; returns with the head of the answer, which the caller must close.

        `path` has `{namespace}`, and `{name}` for the object's. Limits no time but that of
        connecting. Raises ApiError.
        """
        configuration = self._client.configuration
        try:
            _, url, headers, _, _ = await self._client.param_serialize(
                method,
                path,
                path_params={"namespace": self._namespace, "name": name},
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
            )
        except Exception as error:  # the token's file, being replaced
            raise ApiError(Outcome.CREDENTIALS, describe(error)) from error
        if body is not None:
            headers = {**headers, hdrs.CONTENT_TYPE: content_type}
        try:
            return await self._session.request(
                method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
                proxy=configuration.proxy,
                proxy_headers=configuration.proxy_headers,
                server_hostname=configuration.tls_server_name,
            )
        except aiohttp.ClientError as error:
            raise api_error(error) from error
        except ValueError as error:  # no HTTP header can be made of the token
            raise ApiError(Outcome.CREDENTIALS, describe(error)) from error
        except Exception as error:
            raise api_error(error) from error

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
        await self._client.close()


async def read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole body. Raises ApiError if it is longer than `limit` bytes, and aiohttp's errors."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit:
            raise ApiError(Outcome.GARBLED, f"an answer of more than {limit} bytes")
    return bytes(body)


async def read_list(
    get: Callable[[Mapping[str, str]], AbstractAsyncContextManager[aiohttp.ClientResponse]],
    selector: str,
) -> Page:
    """Every page of the pods; `get` gives an answer that is a 200. The version is the first page's:
    all show the same moment. Raises ApiError, and aiohttp's errors."""
    query = {"labelSelector": selector}
    items: list[object] = []
    version = ""
    for _ in range(_MOST_PAGES):
        async with get(query) as response:
            body = await read(response, _LONGEST_LIST)
        page = read_page(body)
        if page is None:
            raise ApiError(Outcome.GARBLED, "the answer is no list of pods")
        items += page.items
        version = version or page.resource_version
        if not page.continues:
            return Page(tuple(items), version, "")
        query["continue"] = page.continues
    raise ApiError(Outcome.GARBLED, "the list has no end")


async def refusal(response: aiohttp.ClientResponse) -> ApiError:
    """What an answer that is no success means. Raises aiohttp's errors."""
    status = response.status
    outcome = _STATUS.get(status, Outcome.ERROR if status >= 500 else Outcome.REJECTED)
    said = message_of(await read(response, _LONGEST_REFUSAL))
    if outcome is Outcome.FORBIDDEN and _NOBODY in said:
        # The client goes on without a token when a kubeconfig's program gives it none.
        outcome = Outcome.UNAUTHORIZED
    after = response.headers.get(hdrs.RETRY_AFTER, "")
    seconds = float(after) if after.isascii() and after.isdigit() and len(after) < 10 else 0.0
    return ApiError(outcome, f"HTTP {status}: {said or response.reason}", seconds, status)


def api_error(error: Exception) -> ApiError:
    """What went wrong on the way to the API server, while connecting or reading."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ssl.SSLError | aiohttp.ClientSSLError):
        return ApiError(Outcome.TLS, describe(error))
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ServerTimeoutError):
        return ApiError(Outcome.SILENT, "no answer in time")
    if isinstance(error, aiohttp.ClientError | OSError):
        return ApiError(Outcome.UNREACHABLE, describe(error))
    return ApiError(Outcome.GARBLED, describe(error))


def advice(outcome: Outcome, namespace: str, rights: str) -> str:
    """What to look at; `rights` are those that the request needs."""
    return _ADVICE.get(outcome, "").format(namespace=namespace, rights=rights)


def describe(error: BaseException) -> str:
    """One line for people."""
    return " ".join(str(error).split()) or type(error).__name__


def _without_password(url: str) -> str:
    """As it may stand in the log."""
    scheme, mark, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{mark}{place.rpartition('@')[2]}{slash}{path}"


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that notices within half a minute that the other side is gone."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (*_KEEPALIVE, ("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS)):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made
