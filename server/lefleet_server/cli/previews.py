"""`lefleet episodes previews` and `video`: what a worker made for people to look at."""

from contextlib import AbstractContextManager
from typing import Annotated

import typer

from lefleet_server.cli import complete, files
from lefleet_server.cli.client import Body
from lefleet_server.cli.episodes import Id
from lefleet_server.cli.options import JsonOption, ProfileOption, ToOption, connect, episode_ids
from lefleet_server.cli.output import Column, local, show_items, size
from lefleet_server.cli.progress import Bar


def previews(episode: Id, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List the videos and small pictures that were made of an episode's cameras."""
    (episode_id,) = episode_ids([episode])
    columns: list[Column] = [
        ("CAMERA", lambda made: made["camera"]),
        ("KIND", lambda made: made["kind"]),
        ("SIZE", lambda made: size(made["bytes"])),
        ("PIXELS", lambda made: f"{made['width']}x{made['height']}"),
        ("SECONDS", lambda made: f"{made['duration_s']:.1f}" if made["kind"] == "video" else ""),
        ("MADE", lambda made: local(made["made_at"])),
        ("WITHOUT A FILE", lambda made: made["reason"] or ""),
    ]
    with connect(profile) as api:
        found = api.get("/episodes/{episode_id}/previews", episode_id=episode_id)["items"]
    show_items(as_json, found, columns, "none is made yet", ["WITHOUT A FILE"])


def video(
    episode: Id,
    camera: Annotated[
        str, typer.Argument(help="As `lefleet episodes show` names it.", autocompletion=complete.episode_cameras)
    ],
    to: ToOption,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the video of a camera, H.264 in MP4: resumed where it stopped, compared with its SHA-256."""
    files.require_apart(to, as_json)
    (episode_id,) = episode_ids([episode])
    with connect(profile) as api, Bar() as bar:

        def opened(start: int, etag: str) -> AbstractContextManager[Body]:
            return api.stream(
                "/episodes/{episode_id}/previews/{camera}/video.mp4", start, etag, episode_id=episode_id, camera=camera
            )

        written = files.fetch(to, opened, bar)
    files.tell(as_json, written)
