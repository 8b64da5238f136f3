"""What a robot at work says, put together by the agent's own metrics."""

import json
import time
from functools import cache
from typing import Any

from lefleet_agent.metrics import CourierMetrics, RecorderMetrics, exposition, new_registry

CAMERAS = ("front", "wrist")
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


@cache
def body(metrics: bool) -> str:
    """JSON as the courier sends it."""
    text = {"metrics": _metrics()} if metrics else {}
    return json.dumps(_said() | text)


def _metrics() -> str:
    registry = new_registry()
    recorder = RecorderMetrics(registry)
    CourierMetrics(registry).upload_bytes(4 << 20, "sent")
    for tick in range(300):
        recorder.tick(150_000 + 7_000 * tick, 21_000_000 if tick % 50 == 0 else 0, late=False)
        recorder.stages({"read": 800_000, "preprocess": 400_000, "infer": 0, "send": 90_000}, held=False)
        for camera in CAMERAS:
            recorder.image(camera, 12_345_678, new=True)
    recorder.episode("success")
    recorder.state("running")
    recorder.release({"repo": "lab/act-so101", "commit": "c0ffee" * 6})
    recorder.disk_free("/", 412_345_678_912)
    return exposition(registry) + "".join(_motors())


def _motors() -> list[str]:
    names = ("temperature_celsius 41.0", "voltage_volts 7.4", "current_amperes 0.183", "load_ratio -0.121")
    pairs = [(each.split(" "), joint) for each in names for joint in JOINTS]
    return [f'lefleet_motor_{name}{{joint="{joint}"}} {value}\n' for (name, value), joint in pairs]


def _said() -> dict[str, Any]:
    policy = {"repo": "lab/act-so101", "commit": "c0ffee" * 6, "digest": "d0" * 32, "type": "act"}
    lateness = {"lateness_ms_p50": 0.18, "lateness_ms_p99": 1.56, "lateness_ms_max": 2.9}
    return {
        "state": "running",
        "detail": "",
        "policy": policy,
        "loop": {"hz": 30.0, "ticks": 300, "late": 0} | lateness,
        "episode_id": "e" * 32,
        "task": "put the cube into the box",
        "cameras": list(CAMERAS),
        "spool": {"episodes": 2, "bytes": 41_943_040, "budget_bytes": 10**11, "lost_episodes": 0, "error": ""},
        "disk": {"free_bytes": 412_345_678_912, "total_bytes": 10**12},
        "estop": {"wish": 0, "holds": False},
        "courier": {"clock_offset_s": 0.012, "trouble": {}},
        "agent_version": "0.1.0",
        "wall_ns": time.time_ns(),
    }
