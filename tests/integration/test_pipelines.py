"""Pipelines that change the server in their midst: what was prepared on one must be there on the
other, whatever fails before it."""

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.wire import SYNC, Address, Frame, Wire, bind, describe, execute, parse, query


def run(sql: str) -> bytes:
    return parse(sql) + bind() + describe("P") + execute()


async def answers(address: Address, database: str) -> list[Frame]:
    use = bind(b"8", statement="half") + execute()
    async with await Wire.connect(address, database=database) as client:
        # A read, so that it is prepared on a replica.
        frames = await client.ask(parse("SELECT $1::int / 2", "half"), use, SYNC)
        # On the primary its Parse is ignored because of the error before it; but when that is
        # known, the other uses have been sent already.
        await client.send(
            *(run("DROP TABLE missing"), use, SYNC),
            *(run("DELETE FROM kept"), use, SYNC) * 3,
            *(use, SYNC),
            query("SELECT 'the end'"),
        )
        return frames + await client.until(b"Z", 6)


async def test_a_statement_is_found_on_the_new_server_though_an_error_came_before(
    cluster: Cluster, proxy: ProxyProcess, fresh_database: str
) -> None:
    cluster.primary.psql("CREATE TABLE kept (n int)", fresh_database)
    cluster.wait_caught_up()
    expected = await answers(cluster.primary, fresh_database)
    assert [body for kind, body in expected if kind == b"E" and b"C42P01\0" in body]
    assert await answers(proxy, fresh_database) == expected
