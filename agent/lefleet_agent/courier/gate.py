"""When the next piece of an upload may go."""

from collections.abc import Callable

from lefleet_agent.courier.pace import Rate

LOOK_S = 0.5
STEP_S = 10.0


class Gate:
    """Holds uploads back while the robot needs the network, and to the rate that was set.

    It is passed between requests, so nothing waits on an open connection.
    """

    def __init__(
        self,
        rate: Rate | None,
        busy: Callable[[], bool],
        pause: Callable[[float], bool],
        alive: Callable[[], None],
    ) -> None:
        """`busy`: whether the robot needs the network. `pause(seconds)`: True once the courier ends.

        `alive` is called all the time while waiting.
        """
        self._rate = rate
        self._busy = busy
        self._pause = pause
        self._alive = alive

    def wait(self, size_bytes: int) -> bool:
        """Until so much may be sent; False when the courier ends instead."""
        while self._busy():
            self._alive()
            if self._pause(LOOK_S):
                return False
        left_s = self._rate.delay_s(size_bytes) if self._rate else 0.0
        while left_s > 0:
            self._alive()
            if self._pause(min(left_s, STEP_S)):
                return False
            left_s -= STEP_S
        return not self._pause(0)
