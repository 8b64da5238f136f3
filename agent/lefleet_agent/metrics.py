"""Every metric of the agent, declared once. docs/agent-metrics.md lists them; a test compares.

The recorder feeds the control side's (it lives beside control and may wait), the courier its own; the courier puts
both into one exposition. Each owns an explicit registry.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lefleet_agent.host import Comparison
from lefleet_agent.recording.sink import RobotState

LATENESS_BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1.0)
STAGE_BUCKETS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
MOTOR_GAUGES = {
    "temperature_celsius": "Temperature of a joint's motor",
    "voltage_volts": "Supply voltage at a joint's motor",
    "current_amperes": "Current of a joint's motor",
    "load_ratio": "Share of its full torque that a joint's motor gives, -1 to 1",
}
INFERENCE_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def new_registry() -> CollectorRegistry:
    # A `_created` series beside every counter would cost each heartbeat a third more and tells nothing we ask.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return CollectorRegistry()


class RecorderMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._ticks = Counter(
            "lefleet_control_ticks",
            "Recorded control ticks; late: by over half a period",
            ["result"],
            registry=registry,
        )
        self._lateness = Histogram(
            "lefleet_control_lateness_seconds",
            "How long after its deadline a control tick began",
            buckets=LATENESS_BUCKETS_S,
            registry=registry,
        )
        self._inference = Histogram(
            "lefleet_policy_inference_seconds",
            "Time to compute one action chunk",
            buckets=INFERENCE_BUCKETS_S,
            registry=registry,
        )
        stages = Histogram(
            "lefleet_control_stage_seconds",
            "Time of a tick's stages (read, send), and of a chunk's (preprocess, infer)",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        self._stages = {stage: stages.labels(stage) for stage in ("read", "preprocess", "infer", "send")}
        self._waits = Counter(
            "lefleet_chunk_waits", "Ticks in which the arm held still for want of an action to play", registry=registry
        )
        self.frames_dropped = Counter(
            "lefleet_frames_dropped", "Control ticks that were not recorded", registry=registry
        )
        self._images = Counter(
            "lefleet_camera_frames", "Pictures that control ticks saw", ["camera", "result"], registry=registry
        )
        self._image_age = Gauge(
            "lefleet_camera_age_seconds", "Age of the picture at the last control tick", ["camera"], registry=registry
        )
        self._episodes = Counter("lefleet_episodes", "Episodes put into the spool", ["outcome"], registry=registry)
        self.spool_bytes = Gauge("lefleet_spool_bytes", "Bytes that wait for the server", registry=registry)
        self.spool_episodes = Gauge("lefleet_spool_episodes", "Episodes that wait for the server", registry=registry)
        self._state = Gauge("lefleet_robot_state", "1 for the state the robot is in", ["state"], registry=registry)
        self._release = Gauge("lefleet_release_info", "The policy in use", ["policy", "commit"], registry=registry)
        self._disk_free = Gauge(
            "lefleet_disk_free_bytes", "Free space of the state folder's disk", ["mount"], registry=registry
        )
        self._motor_gauges = {
            name: Gauge(f"lefleet_motor_{name}", meaning, ["joint"], registry=registry)
            for name, meaning in MOTOR_GAUGES.items()
        }
        self._motor_errors = Counter(
            "lefleet_motor_errors",
            "Answers of a motor that were lost, broken or an alarm",
            ["joint"],
            registry=registry,
        )
        self._arm_reads = Counter(
            "lefleet_arm_reads", "Readings of all joints; failed ones are tried again", ["result"], registry=registry
        )
        self._targets_withheld = Counter(
            "lefleet_arm_targets_withheld", "Targets not sent because the arm's bus was stuck", registry=registry
        )
        self._counted: dict[str, int] = {}

    def tick(self, lateness_ns: int, inference_ns: int, *, late: bool) -> None:
        self._ticks.labels("late" if late else "on_time").inc()
        self._lateness.observe(lateness_ns * 1e-9)
        if inference_ns:
            self._inference.observe(inference_ns * 1e-9)

    def stages(self, nanoseconds: Mapping[str, int], *, held: bool) -> None:
        """`nanoseconds`: by stage; 0 for one that this tick did not have."""
        for stage, took_ns in nanoseconds.items():
            if took_ns:
                self._stages[stage].observe(took_ns * 1e-9)
        self._waits.inc(held)

    def image(self, camera: str, age_ns: int, *, new: bool) -> None:
        self._images.labels(camera, "new" if new else "repeated").inc()
        self._image_age.labels(camera).set(age_ns * 1e-9)

    def episode(self, outcome: str) -> None:
        self._episodes.labels(outcome).inc()

    def state(self, current: str) -> None:
        for state in RobotState:
            self._state.labels(state).set(state == current)

    def release(self, policy: Mapping[str, object]) -> None:
        self._release.clear()
        self._release.labels(policy.get("repo", ""), policy.get("commit", "")).set(1)

    def arm(self, health: Mapping[str, Any]) -> None:
        """`health`: the fields of an ArmHealth."""
        for joint, motor in health["motors"].items():
            for name, gauge in self._motor_gauges.items():
                gauge.labels(joint).set(motor[name])
        for joint, errors in health["errors"].items():
            self._motor_errors.labels(joint).inc(self._new(f"errors {joint}", errors))
        reads, failed = health["reads"], health["reads_failed"]
        self._arm_reads.labels("ok").inc(self._new("reads", reads))
        self._arm_reads.labels("failed").inc(self._new("reads_failed", failed))
        self._targets_withheld.inc(self._new("withheld", health["goals_withheld"]))

    def _new(self, name: str, count: int) -> int:
        """How much a count that control keeps has grown; control that began anew counts from 0."""
        before, self._counted[name] = self._counted.get(name, 0), count
        return count - before if count >= before else count

    def disk_free(self, mount: str, free_bytes: int) -> None:
        self._disk_free.labels(mount).set(free_bytes)


class CourierMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._upload_bytes = Counter(
            "lefleet_upload_bytes", "Bytes of episodes sent to the server", ["result"], registry=registry
        )
        self.retries = Counter(
            "lefleet_courier_retries", "Talks with the server or the disk that failed", ["what"], registry=registry
        )
        self._freed = Counter(
            "lefleet_episodes_freed", "Episodes deleted from this disk, ever", ["acknowledged"], registry=registry
        )
        self.offered_again = Counter(
            "lefleet_episodes_offered_again", "Episodes that the server gave a receipt for and lost", registry=registry
        )
        self.spool_usable = Gauge(
            "lefleet_spool_usable", "0 while the spool's disk is read-only or gone", registry=registry
        )
        self.clock_offset = Gauge(
            "lefleet_clock_offset_seconds", "How far the server's clock is ahead of this machine's", registry=registry
        )
        self.clock_offset.set(math.nan)
        self._counted = {"true": 0, "false": 0}

    def upload_bytes(self, size_bytes: int, result: str) -> None:
        self._upload_bytes.labels(result).inc(size_bytes)

    def freed(self, acknowledged: int, unacknowledged: int) -> None:
        """As the spool's index counts them; it may have been made anew."""
        for name, count in (("true", acknowledged), ("false", unacknowledged)):
            self._freed.labels(name).inc(max(0, count - self._counted[name]))
            self._counted[name] = count

    def exposition(self) -> str:
        return exposition(self._registry)


class HostMetrics(Collector):
    """Read when they are asked for: zones and roles come and go."""

    def __init__(self, temperatures: Callable[[], Mapping[str, float]], drift: Callable[[], Comparison | None]) -> None:
        self._temperatures = temperatures
        self._drift = drift

    def collect(self) -> Iterator[GaugeMetricFamily]:
        heat = GaugeMetricFamily(
            "lefleet_temperature_celsius", "Temperature of a thermal zone of the robot's computer", labels=["zone"]
        )
        for zone, celsius in self._temperatures().items():
            heat.add_metric([zone], celsius)
        yield heat
        known = self._drift()
        if known is None:
            return
        drift = GaugeMetricFamily(
            "lefleet_drift", "Whether the host differed from what the role says, when it was last compared",
            labels=["role"],
        )  # fmt: skip
        for role, differs in known.differs.items():
            drift.add_metric([role], differs)
        yield drift
        yield GaugeMetricFamily(
            "lefleet_drift_checked_timestamp_seconds", "When the host was last compared with its roles",
            value=known.checked_unix_s,
        )  # fmt: skip


def exposition(registry: CollectorRegistry) -> str:
    """Prometheus' text format."""
    return generate_latest(registry).decode()
