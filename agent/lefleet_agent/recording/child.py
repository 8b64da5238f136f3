"""Where the recorder process begins. Control imports this: OpenCV and HDF5 load in the recorder only."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lefleet_agent.recording.events import EventCounter
from lefleet_agent.recording.ring import Ring

if TYPE_CHECKING:
    from lefleet_agent.recording.handle import RecorderConfig


def child_main(
    config: "RecorderConfig",
    setup: Callable[[], None] | None,
    ring: Ring,
    stop: EventCounter,
    ready: EventCounter,
) -> None:
    from lefleet_agent.recording.recorder import run

    if setup:
        setup()
    run(config, ring, stop, ready)
