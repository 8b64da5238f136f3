"""`lefleet-agent retry-refused`."""

from lefleet_agent.commands.common import Config, Json, show
from lefleet_agent.config import load


def retry_refused(config: Config, as_json: Json = False) -> None:
    """Offer the server again every episode that it refused."""
    from lefleet_agent.wiring import build_spool

    again = [episode.episode_id for episode in build_spool(load(config)).retry_refused()]
    show({"episodes": again}, as_json, f"{len(again)} episodes wait for the server again")
