"""Where others are to be found, as the configuration takes it: URLs, names in DNS, addresses."""

import ipaddress
import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field


def _rest_url(text: str) -> str:
    parts = urlsplit(text)  # raises ValueError
    is_whole = parts.scheme in ("http", "https") and parts.hostname is not None
    is_bare = parts.path in ("", "/") and not (parts.query or parts.fragment or "@" in parts.netloc)
    if not is_whole or not is_bare or parts.port == 0:  # which may raise ValueError too
        raise ValueError("no such URL")
    return text.rstrip("/")


# RFC 1035 section 2.3.4; services and Kubernetes' ports are named with underscores (RFC 2782).
_DNS_NAME: Final = re.compile(r"(?=.{1,254}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


def _dns_name(text: str) -> str:
    if _DNS_NAME.fullmatch(text) and not text.rpartition(".")[2].isdigit():
        return text
    raise ValueError("none")


_WITH_PORT: Final = re.compile(r"(\[[^]]+\]|[^:]+)(?::([1-9][0-9]{0,4}))?")


def nameserver(text: str) -> tuple[str, int]:
    """The address and the port, 0 if there is none. Raises ValueError."""
    found = _WITH_PORT.fullmatch(text)
    address, port = (found[1].strip("[]"), int(found[2] or 0)) if found else (text, 0)
    if port > 65535:
        raise ValueError(text)
    return str(ipaddress.ip_address(address)), port


def _nameserver(text: str) -> str:
    nameserver(text)
    return text


# A name or an address, and a port.
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+):([0-9]{1,5})")


def _address(text: str) -> str:
    found = _ADDRESS.fullmatch(text)
    if text == "" or (found and 0 < int(found[2]) < 65536):
        return text
    raise ValueError("neither")


RestUrls = Annotated[
    tuple[Annotated[str, AfterValidator(_rest_url)], ...],
    Field(description='a list of URLs without a path or a user such as ["http://10.0.0.1:8008"]'),
]
DnsNames = Annotated[
    tuple[Annotated[str, AfterValidator(_dns_name)], ...],
    Field(description='a list of names such as ["db.example.org"], of which none is an address'),
]
Nameservers = Annotated[
    tuple[Annotated[str, AfterValidator(_nameserver)], ...],
    Field(
        description='a list of addresses such as ["10.0.0.10", "10.0.0.11:5353", "[fd00::1]:53"]'
    ),
]
_ADDRESS_KIND: Final = "HOST:PORT, of another proxy's [http]; an IPv6 address in brackets"
Addresses = Annotated[
    tuple[Annotated[str, AfterValidator(_address)], ...],
    Field(description=f"a list of {_ADDRESS_KIND}"),
]
OptionalAddress = Annotated[
    str, AfterValidator(_address), Field(description=f'"" for none, or {_ADDRESS_KIND}')
]
