"""Blocking work off the event loop."""

import asyncio
from collections.abc import Callable


async def in_thread[**P, R](work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Like asyncio.to_thread, but when cancelled it waits for the work to end before it raises.

    The thread cannot be stopped, and the caller's next step would be to close the file it still writes to.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
