"""One query for many viewers: what every open page asks each second is asked of the database once."""

import asyncio
import time
from collections.abc import Awaitable, Callable


class Shared[K, V]:
    """The value of `load(key)`, at most `fresh_s` old; callers at the same moment wait for one load."""

    def __init__(
        self,
        load: Callable[[K], Awaitable[V]],
        fresh_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._fresh_s = fresh_s
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._values: dict[K, tuple[float, V]] = {}

    def forget(self) -> None:
        """Load anew at the next call: what was loaded is known to be old."""
        self._values = {}

    async def get(self, key: K) -> V:
        async with self._one_at_a_time:
            oldest = self._clock() - self._fresh_s
            self._values = {key: held for key, held in self._values.items() if held[0] > oldest}
            if key not in self._values:
                value = await self._load(key)
                self._values[key] = (self._clock(), value)
            return self._values[key][1]
