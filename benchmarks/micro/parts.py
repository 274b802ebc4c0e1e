"""The parts that are timed, each made ready and then called again and again."""

import struct
from collections.abc import Callable, Iterator
from typing import Final

from pgproxy.frames import codes
from pgproxy.frames.splitter import NEED_DATA, Splitter, wants
from pgproxy.protocol.inflight import OWED_BIND, OWED_EXECUTE, OWED_SYNC, Inflight
from pgproxy.routing.key import lexical_key as key_of
from pgproxy.servers.ledger import Ledger
from pgproxy.servers.slots import Profile, Slot, Waiter

Part = tuple[str, Callable[[], object]]

SHORT: Final = b"SELECT abalance FROM pgbench_accounts WHERE aid = 1234567;"
ORM: Final = (
    b'SELECT "shop_order"."id", "shop_order"."customer_id", "shop_order"."created_at",'
    b' "shop_order"."state", "shop_order"."total", "shop_customer"."id",'
    b' "shop_customer"."name", "shop_customer"."email" FROM "shop_order" INNER JOIN'
    b' "shop_customer" ON ("shop_order"."customer_id" = "shop_customer"."id") WHERE'
    b' ("shop_order"."state" IN (\'new\', \'paid\', \'sent\') AND "shop_order"."total" > 99.50'
    b' AND "shop_customer"."email" = \'someone@example.org\') ORDER BY'
    b' "shop_order"."created_at" DESC LIMIT 21'
)
_ROWS: Final = 3000  # of 11 bytes of text: about what one read of 64 KiB holds


def frame(kind: int, body: bytes) -> bytes:
    """One message as it stands on the wire."""
    return struct.pack("!BI", kind, len(body) + 4) + body


def splitter() -> Iterator[Part]:
    """A server's replies: one small result, and a read full of rows."""
    row = frame(codes.B_DATA_ROW, struct.pack("!HI11s", 1, 11, b"12345678901"))
    small = (
        frame(codes.B_ROW_DESCRIPTION, bytes(33))
        + row
        + frame(codes.B_COMMAND_COMPLETE, b"SELECT 1\0")
        + frame(codes.B_READY_FOR_QUERY, b"I")
    )
    table = wants(
        pass_by=bytes([codes.B_DATA_ROW, codes.B_ROW_DESCRIPTION]),
        header=bytes([codes.B_COMMAND_COMPLETE]),
        body=bytes([codes.B_READY_FOR_QUERY]),
    )
    yield "splitter: a result of one row (4 frames)", _walk(Splitter(table), small)
    yield f"splitter: {_ROWS} rows in one chunk", _walk(Splitter(table), row * _ROWS)


def _walk(one_way: Splitter, chunk: bytes) -> Callable[[], object]:
    def walk() -> None:
        one_way.feed(chunk)
        while one_way.next() != NEED_DATA:
            pass
        one_way.keep = one_way.passed

    return walk


def lexical_key() -> Iterator[Part]:
    """The key under which a routing decision is kept."""
    yield f"lexical key: pgbench's SELECT ({len(SHORT)} bytes)", lambda: key_of(SHORT)
    yield f"lexical key: an ORM's SELECT ({len(ORM)} bytes)", lambda: key_of(ORM)


def ledger() -> Iterator[Part]:
    """A server connection taken and given back, while nobody waits."""
    profile = Profile([(b"user", b"postgres")])
    book = Ledger(20)
    slot = Slot(profile)
    book.enqueue(Waiter(), profile, 0.0, 1.0)
    book.opened(slot, 0.0)
    book.release(slot, 0.0)

    def lease() -> None:
        assert book.acquire(profile) is slot
        book.release(slot, 0.0)

    yield "ledger: acquire and release", lease


def inflight() -> Iterator[Part]:
    """One Bind, Execute, Sync, and its replies."""
    queue = Inflight()
    replies = (
        codes.B_BIND_COMPLETE,
        codes.B_COMMAND_COMPLETE,
        codes.B_READY_FOR_QUERY,
    )

    def batch() -> None:
        for owed in (OWED_BIND, OWED_EXECUTE, OWED_SYNC):
            queue.push(owed)
        for reply in replies:
            queue.reply(reply)

    yield "inflight: Bind, Execute, Sync and their replies", batch
