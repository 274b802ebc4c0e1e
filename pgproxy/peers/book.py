"""PURE. Which other proxies there are: what discovery lists, and what each says when it is asked.

One that listens to nobody (its address refuses connections) has ended, or has not begun: a proxy's
HTTP port is the first thing it opens and the last that it closes. One that is silent may be there all
the same, and counts with what it said last for as long as it is listed. One that answers counts,
listed or not: a pod that is being terminated may have left the list long before it ends.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, final

from pgproxy.peers.word import Address, Word


class State(Enum):
    """The values are those of the metric's label."""

    NEW = "new"  # it has not been asked yet
    UP = "up"
    SILENT = "silent"
    ENDED = "ended"  # nobody listens there


@final
class Peer:
    """What is known of the one at an address. `word` is its last one."""

    def __init__(self, address: Address) -> None:
        self.address: Final = address
        self.is_listed = True
        self.state = State.NEW
        self.word: Word | None = None
        self.error = ""


@final
class Book:
    """`own` is the id by which the proxy knows itself among the others."""

    def __init__(self, own: str) -> None:
        self._own: Final = own
        self._peers: Final[dict[Address, Peer]] = {}

    @property
    def addresses(self) -> list[Address]:
        """Whom to ask."""
        return sorted(self._peers)

    def follow(self, addresses: Iterable[Address]) -> None:
        """Discovery has these now, and no others."""
        listed = set(addresses)
        for address in listed - self._peers.keys():
            self._peers[address] = Peer(address)
        for address, peer in list(self._peers.items()):
            peer.is_listed = address in listed
            if not peer.is_listed and peer.state is not State.UP:
                del self._peers[address]

    def answered(self, address: Address, word: Word) -> None:
        peer = self._peers.get(address)
        if peer is not None:
            peer.state, peer.word, peer.error = State.UP, word, ""

    def failed(self, address: Address, error: str, *, is_refused: bool) -> None:
        """It has given no answer; `is_refused`: nobody listens there."""
        peer = self._peers.get(address)
        if peer is None:
            return
        if not peer.is_listed:
            del self._peers[address]
            return
        peer.state = State.ENDED if is_refused else State.SILENT
        peer.error = error

    def peer(self, address: Address) -> Peer | None:
        """The one there, if it is listed or answers."""
        return self._peers.get(address)

    @property
    def peers(self) -> list[Peer]:
        """Each once, whatever addresses it has, in the order of their addresses; this proxy is among
        them if it is listed."""
        found: dict[str, Peer] = {}
        for address in self.addresses:
            peer = self._peers[address]
            name = _name(peer)
            if name not in found or found[name].state is not State.UP:
                found[name] = peer
        return list(found.values())

    def is_own(self, peer: Peer) -> bool:
        return peer.word is not None and peer.word.id == self._own

    @property
    def has_own(self) -> bool:
        """This proxy is one of them."""
        return any(self.is_own(peer) for peer in self._peers.values())

    @property
    def is_complete(self) -> bool:
        """Everybody has been asked."""
        return all(peer.state is not State.NEW for peer in self._peers.values())

    def holders(self) -> Mapping[str, Word | None]:
        """The others that may have server connections, by their ids, with what they said last; one
        that never said anything goes by its address."""
        return {
            _name(peer): peer.word
            for peer in self.peers
            if peer.state in (State.UP, State.SILENT) and not self.is_own(peer)
        }

    def of_instance(self, instance: int) -> list[Address]:
        """Where the others are whose cancel keys may begin so."""
        return [
            peer.address
            for peer in self.peers
            if peer.word is not None
            and peer.word.instance == instance
            and peer.state is not State.ENDED
            and not self.is_own(peer)
        ]


def _name(peer: Peer) -> str:
    return str(peer.address) if peer.word is None else peer.word.id
