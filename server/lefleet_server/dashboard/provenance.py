"""Where an episode came from: enough to find the very same robot, policy and settings again."""

from collections.abc import Callable
from functools import partial
from typing import Any

from lefleet_server.dashboard.filters import Filters
from lefleet_server.dashboard.parts import Text, Time, box, link
from lefleet_server.episodes.models import Episode
from lefleet_server.units import DASH, duration, number, short_commit, size

type Entry = Callable[[], object]


def build_provenance(episode: Episode) -> None:
    meta = episode.meta
    with box("lf-card lf-panel", tag="section"):
        Text("Provenance", tag="h2")
        with box("lf-provenance", tag="dl"):
            _entry("Robot", lambda: _robot(episode))
            _entry("Policy", lambda: _policy(episode))
            _entry("Commit", lambda: _copy(episode.policy_commit))
            _entry("Policy digest", lambda: _copy(episode.policy_digest))
            _entry("Task", lambda: Text(episode.task or DASH))
            _entry("Started", lambda: Time(episode.started_at, "long"))
            _entry("Ended", lambda: Time(episode.ended_at, "long"))
            _entry("End reason", lambda: Text(episode.end_reason or DASH))
            _entry("Length", lambda: Text(f"{duration(episode.duration_s)}, {episode.frames} ticks"))
            _entry("Rate", lambda: Text(f"{number(episode.fps)} Hz asked, {number(episode.hz_held)} Hz held"))
            _entry("Dropped", lambda: Text(_dropped(episode)))
            _entry("Agent", lambda: Text(str(meta.get("agent_version") or DASH)))
            _entry("Calibration", lambda: _copy(str(meta.get("calibration_fingerprint") or "")))
            for camera, fingerprint in _fingerprints(episode).items():
                _entry(f"Camera {camera}", partial(_copy, fingerprint))
            if meta.get("seed") is not None:
                _entry("Seed", lambda: Text(str(meta["seed"])))
            _entry("File", lambda: Text(size(episode.bytes)))
            _entry("SHA-256", lambda: _copy(episode.sha256))
            _entry("Episode id", lambda: _copy(episode.id))


def _entry(name: str, build: Entry) -> None:
    Text(name, tag="dt")
    with box(tag="dd"):
        build()


def _robot(episode: Episode) -> None:
    with link(Filters(robot=episode.robot_id).address("/episodes")):
        Text(episode.robot_id, tag="span")
    if type_ := episode.meta.get("robot_type"):
        Text(f" · {type_}", "lf-muted", tag="span")


def _policy(episode: Episode) -> None:
    if not episode.policy_repo:
        Text("None: a person or a script drove", "lf-muted")
        return
    with link(Filters(policy=episode.policy_repo).address("/episodes")):
        Text(episode.policy_repo, tag="span")
    if type_ := episode.meta.get("policy_type"):
        Text(f" · {str(type_).upper()}", "lf-muted", tag="span")


def _copy(value: str) -> None:
    """A long identifier, shortened; pressing it copies the whole."""
    if not value:
        Text(DASH)
        return
    shown = value if len(value) <= 16 else f"{short_commit(value)}…{value[-6:]}"
    button = Text(shown, "lf-copy", tag="button")
    button.props.update({"type": "button", "data-copy": value, "title": f"{value} (press to copy)"})


def _dropped(episode: Episode) -> str:
    if not episode.frames_dropped:
        return "None"
    whole = episode.frames + episode.frames_dropped
    return f"{episode.frames_dropped} of {whole} ticks ({100 * episode.frames_dropped / whole:.1f} %)"


def _fingerprints(episode: Episode) -> dict[str, str]:
    found: Any = episode.meta.get("camera_fingerprints")
    return {name: str(value) for name, value in found.items()} if isinstance(found, dict) else {}
