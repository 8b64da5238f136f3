import math
from dataclasses import asdict
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lefleet_agent.episode import ArmHealth, MotorHealth
from lefleet_agent.host import Comparison
from lefleet_agent.metrics import CourierMetrics, HostMetrics, RecorderMetrics, exposition, new_registry
from lefleet_agent.recording.sink import RobotState

DOCS = Path(__file__).resolve().parents[2] / "docs" / "agent-metrics.md"


@pytest.fixture
def registry():
    return new_registry()


@pytest.fixture
def recorder(registry) -> RecorderMetrics:
    return RecorderMetrics(registry)


def samples(registry) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(exposition(registry)):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_the_docs_list_every_metric_with_its_type_labels_and_meaning_and_no_other(registry, recorder):
    CourierMetrics(registry)
    registry.register(HostMetrics(lambda: {"cpu": 50.0}, lambda: Comparison({"swap": True}, 1)))
    recorder.tick(1000, 1000, late=False)
    recorder.image("front", 1, new=True)
    recorder.episode("success")
    recorder.state("running")
    recorder.release({"repo": "a", "commit": "b"})
    recorder.disk_free("/", 1)
    recorder.arm(arm(reads=1))
    declared = {}
    for family in registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        collector = registry._names_to_collectors.get(family.name)
        labels = collector._labelnames if collector else family.samples[0].labels  # made when it is asked for
        declared[name] = [family.type, ", ".join(labels), family.documentation]
    rows = [line.strip("|").split("|") for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    assert declared == {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}
    assert all(name.startswith("lefleet_") for name in declared)


def test_only_the_metrics_asked_for_travel(registry, recorder):
    """No `_created` series, none of the process or the interpreter: each heartbeat carries this text."""
    recorder.episode("success")
    assert all(name.startswith("lefleet_") and not name.endswith("_created") for name in samples(registry))


def test_the_robot_is_in_one_state(registry, recorder):
    recorder.state(RobotState.IDLE)
    recorder.state(RobotState.RUNNING)
    found = samples(registry)["lefleet_robot_state"]
    assert {labels["state"]: value for labels, value in found} == {
        state: float(state is RobotState.RUNNING) for state in RobotState
    }


def test_a_new_release_replaces_the_old_one(registry, recorder):
    recorder.release({"repo": "lab/act", "commit": "one"})
    recorder.release({"repo": "lab/act", "commit": "two"})
    assert samples(registry)["lefleet_release_info"] == [({"policy": "lab/act", "commit": "two"}, 1.0)]


def test_a_tick_that_played_a_chunk_counts_no_inference(registry, recorder):
    recorder.tick(2_000_000, 0, late=False)
    recorder.tick(20_000_000, 30_000_000, late=True)
    found = samples(registry)
    assert found["lefleet_policy_inference_seconds_count"] == [({}, 1.0)]
    assert found["lefleet_control_lateness_seconds_sum"][0][1] == pytest.approx(0.022)
    assert {labels["result"]: value for labels, value in found["lefleet_control_ticks_total"]} == {
        "on_time": 1.0,
        "late": 1.0,
    }


def arm(reads: int) -> dict[str, object]:
    motor = MotorHealth(temperature_celsius=41, voltage_volts=12, load_ratio=-0.2, current_amperes=0.3, alarms=())
    return asdict(ArmHealth({"gripper": motor}, {"gripper": reads // 10}, reads, reads_failed=2, goals_withheld=1))


def test_the_motors_are_told_by_joint_and_counts_grow_by_what_is_new(registry, recorder):
    for reads in (100, 150, 30):  # control began anew before the last
        recorder.arm(arm(reads))
    found = samples(registry)
    assert found["lefleet_motor_temperature_celsius"] == [({"joint": "gripper"}, 41.0)]
    assert found["lefleet_motor_load_ratio"] == [({"joint": "gripper"}, -0.2)]
    assert found["lefleet_motor_errors_total"] == [({"joint": "gripper"}, 18.0)]
    assert {labels["result"]: value for labels, value in found["lefleet_arm_reads_total"]} == {
        "ok": 180.0,
        "failed": 2.0,
    }


def test_the_courier_counts_bytes(registry):
    CourierMetrics(registry).upload_bytes(5, "sent")
    assert samples(registry)["lefleet_upload_bytes_total"] == [({"result": "sent"}, 5.0)]


def test_what_left_the_disk_is_counted_as_the_index_counts_it(registry):
    metrics = CourierMetrics(registry)
    metrics.freed(5, 1)
    metrics.freed(5, 1)
    metrics.freed(7, 1)
    metrics.freed(0, 0)  # the index was made anew: a counter does not go back
    metrics.freed(2, 0)
    found = {labels["acknowledged"]: value for labels, value in samples(registry)["lefleet_episodes_freed_total"]}
    assert found == {"true": 9.0, "false": 1.0}


def test_a_clock_that_was_compared_with_none_has_no_offset(registry):
    metrics = CourierMetrics(registry)
    assert math.isnan(samples(registry)["lefleet_clock_offset_seconds"][0][1])
    metrics.clock_offset.set(-3.5)
    assert samples(registry)["lefleet_clock_offset_seconds"] == [({}, -3.5)]
