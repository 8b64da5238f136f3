"""The menu beside an episode's HDF5 file: the same episode for Rerun or Foxglove, and how to open it there."""

from lefleet_server.dashboard.parts import Text, box, icon, link
from lefleet_server.episodes.models import Episode
from lefleet_server.exports import Format

_MENU = "lf-open-in"
_ENTRIES = {
    Format.RRD: ("Rerun (.rrd)", "pip install 'rerun-sdk<0.34', then: rerun FILE, or drop it into the viewer."),
    Format.MCAP: ("Foxglove (.mcap)", "In the Foxglove app: Open local file, or drop it into the window."),
}


def build_open_in(episode: Episode, quarantined: bool) -> None:
    with box("lf-button", tag="button", type="button", popovertarget=_MENU, aria_haspopup="true"):
        icon("open")
        Text("Open in…", tag="span")
    with box("lf-card lf-menu", id=_MENU, popover="auto"):
        if quarantined:
            Text("Quarantined: its file is invalid, so nothing is made of it.", "lf-muted", tag="p")
            return
        for kind, (name, how) in _ENTRIES.items():
            target = f"/api/v1/episodes/{episode.id}/export.{kind}"
            with link(target, "lf-menu-entry", download=f"{episode.robot_id}-{episode.id}.{kind}"):
                Text(name, "lf-menu-name", tag="span")
                Text(how, "lf-menu-how", tag="span")
        Text("Made when you press it; a long episode takes a while.", "lf-faint", tag="p")
