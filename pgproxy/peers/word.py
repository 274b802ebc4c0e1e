"""PURE. What a proxy says of itself to the others that ask it.

`id` is another one for each process that ever was one; `instance` the part of its cancel keys that
tells whose they are. `beside` are the connections it may have on each server beside its pools, `held`
those that its pools may have by server: as many as it may open, or as there still are, if that is
more.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple, final

# Characters of an id: a pod's name (at most 253, RFC 1123) and what is random.
LONGEST_ID: Final = 300
# Bits of a process id in cancel keys that are the instance (clients/cancel.py).
INSTANCES: Final = 256


class Address(NamedTuple):
    """Of a proxy's HTTP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@final
@dataclass(frozen=True)
class Word:
    id: str
    instance: int
    beside: int = 0
    held: Mapping[str, int] = field(default_factory=dict)
    draining: bool = False


def word_text(word: Word) -> str:
    """As it is sent."""
    return json.dumps(asdict(word))


def read_word(body: bytes) -> Word | None:
    """What another one has sent; None if it is no proxy's word. What a newer version says beside is
    left out."""
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    name, held, draining = said.get("id"), said.get("held"), said.get("draining")
    instance, beside = said.get("instance", -1), said.get("beside", -1)
    if not (isinstance(name, str) and 0 < len(name) <= LONGEST_ID):
        return None
    if not (_is_count(instance) and instance < INSTANCES and _is_count(beside)):
        return None
    if not isinstance(held, dict) or not all(_is_count(count) for count in held.values()):
        return None
    return Word(name, instance, beside, held, draining) if isinstance(draining, bool) else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def read_address(text: str) -> Address | None:
    """HOST:PORT, an IPv6 address in brackets; None if it is not that."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    if not (colon and host and port.isascii() and port.isdigit() and len(port) <= 5):
        return None
    number = int(port)
    return Address(host, number) if 0 < number < 65536 else None
