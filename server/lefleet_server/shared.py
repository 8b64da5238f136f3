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
        if (held := self._held(key)) is not None:
            return held[1]
        async with self._one_at_a_time:
            held = self._held(key)  # whoever waited may find what another loaded
            if held is None:
                oldest = self._clock() - self._fresh_s
                # Into what is there now: what is loaded while somebody says `forget` is forgotten too.
                values = self._values = {name: each for name, each in self._values.items() if each[0] > oldest}
                value = await self._load(key)
                held = values[key] = (self._clock(), value)
            return held[1]

    def _held(self, key: K) -> tuple[float, V] | None:
        held = self._values.get(key)
        return held if held and held[0] > self._clock() - self._fresh_s else None
