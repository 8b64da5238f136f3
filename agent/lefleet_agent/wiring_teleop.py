"""Builds what drives the arm, from the settings: a policy's player, a person at the leader arm, or both in turn."""

import numpy as np

from lefleet_agent.config import AgentSettings, ConfigError
from lefleet_agent.control.chunks import Mode, Player
from lefleet_agent.control.clock import SystemClock
from lefleet_agent.control.driver import Driver
from lefleet_agent.control.following import Assisted, Following, Join
from lefleet_agent.control.loop import ControlLoop
from lefleet_agent.control.operator import Operator
from lefleet_agent.control.reset import LeaderReset, NoReset, PoseReset, Reset
from lefleet_agent.episode import Action, RobotInfo
from lefleet_agent.leader import Leader
from lefleet_agent.policy import PolicyRunner
from lefleet_agent.requests import takeover


def build_leader(settings: AgentSettings, robot: RobotInfo) -> Leader | None:
    """None where none is configured. Raises ConfigError when the robot could not follow it."""
    if settings.leader is None:
        return None

    from lefleet_agent.robots.leader_thread import LeaderThread
    from lefleet_agent.robots.so101_leader import JOINTS, FeetechLeader

    leader = settings.leader
    if robot.joint_names != JOINTS:
        raise ConfigError(
            f"leader.type = {leader.type} has the joints {', '.join(JOINTS)}; the robot has "
            f"{', '.join(robot.joint_names)} and cannot follow it: remove `leader`"
        )
    return LeaderThread(FeetechLeader(leader, settings.robot_id), leader.bus_hz, leader.bus_silence_s)


def build_following(settings: AgentSettings, leader: Leader | None) -> Following:
    """Raises ConfigError without a leader arm."""
    if leader is None or settings.leader is None:
        raise ConfigError("leader = null: there is no leader arm; set leader.type, port and calibration_id")
    return Following(
        leader, SystemClock(), settings.control_hz, settings.leader.join_s, settings.safety.joints_max_age_s
    )


def build_driver(settings: AgentSettings, leader: Leader | None, runner: PolicyRunner) -> Driver:
    """Of a policy's episodes."""
    policy, hz = settings.policy, settings.control_hz
    player = Player(runner, Mode(policy.mode), hz, policy.blend_s, SystemClock(), policy.first_action_limit_s)
    if settings.leader is None:
        return player
    join = Join(settings.leader.join_s, hz)
    return Assisted(player, build_following(settings, leader), join, takeover(settings.state_dir).asked_by)


def build_reset(
    settings: AgentSettings, robot: RobotInfo, loop: ControlLoop, operator: Operator, leader: Leader | None
) -> Reset:
    """Raises ConfigError."""
    safety, pose = settings.safety, build_pose("reset_pose", settings.reset_pose, robot)
    if robot.simulated:
        return NoReset()
    if settings.reset == "leader":
        return LeaderReset(loop, operator, build_following(settings, leader))
    if settings.reset == "pose" and pose is not None:
        return PoseReset(loop, operator, pose, safety.park_speed_per_s, safety.park_limit_s)
    return NoReset()


def build_pose(setting: str, pose: dict[str, float], robot: RobotInfo) -> Action | None:
    """Raises ConfigError when the pose names other joints than the robot has, or lies outside their range."""
    if not pose:
        return None
    if set(pose) != set(robot.joint_names):
        raise ConfigError(f"{setting} names {', '.join(sorted(pose))}; name each of {', '.join(robot.joint_names)}")
    for name, (low, high) in zip(robot.joint_names, robot.joint_limits, strict=True):
        if not low <= pose[name] <= high:
            raise ConfigError(f"{setting}: {name} = {pose[name]:g} is outside its range of {low:g} to {high:g}")
    return np.array([pose[name] for name in robot.joint_names], np.float32)
