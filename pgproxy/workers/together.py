"""Several things at once, of which one may fail: commands that all workers carry out."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

# Seconds between looks whether somebody still waits for the results.
LOOK: Final = 0.05


async def together(
    works: Sequence[Coroutine[Any, Any, Result]],
    *,
    one_will_do: bool,
    check: Callable[[], None] = lambda: None,
) -> list[Result]:
    """The results of all. Raises the first error, unless one success is enough; and what `check`,
    which is called again and again, raises. What still runs then is cancelled."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(work) for work in works]
    when = asyncio.ALL_COMPLETED if one_will_do else asyncio.FIRST_EXCEPTION
    pending = set(tasks)
    try:
        while pending:
            done, pending = await asyncio.wait(pending, timeout=LOOK, return_when=when)
            if not one_will_do:
                for task in done:
                    task.result()
            if pending:
                check()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    found = [task.result() for task in tasks if task.exception() is None]
    if not found and tasks:
        tasks[0].result()
    return found
