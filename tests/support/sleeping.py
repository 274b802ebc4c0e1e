"""When a statement is at work: PostgreSQL ignores a cancel that comes before it."""

import asyncio
import threading
from collections.abc import Callable

from pgproxy.embedded import Cluster


def wait_asleep(cluster: Cluster, database: str) -> None:
    """Wait until a session of that database, on whichever server, is in pg_sleep."""
    asleep = (
        "SELECT count(*) FROM pg_stat_activity"
        f" WHERE datname = '{database}' AND wait_event = 'PgSleep'"
    )
    while all(server.psql(asleep) == "0" for server in cluster.servers):
        pass


class WhenAsleep:
    """Does something in another thread, once a statement of this thread sleeps.

    with WhenAsleep(cluster, database, connection.cancel):
        ...  # a statement that sleeps
    """

    def __init__(self, cluster: Cluster, database: str, action: Callable[[], object]) -> None:
        self._thread = threading.Thread(target=self._run, args=(cluster, database, action))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    @staticmethod
    def _run(cluster: Cluster, database: str, action: Callable[[], object]) -> None:
        wait_asleep(cluster, database)
        action()


async def cancel_asleep(cluster: Cluster, database: str, task: asyncio.Task[object]) -> None:
    """Cancel the task once its statement sleeps."""
    await asyncio.to_thread(wait_asleep, cluster, database)
    task.cancel()
