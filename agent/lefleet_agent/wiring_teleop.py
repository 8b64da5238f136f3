"""Builds what only a robot with a person at its leader arm has, from the settings."""

from lefleet_agent.config import AgentSettings, ConfigError
from lefleet_agent.episode import RobotInfo
from lefleet_agent.leader import Leader


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
