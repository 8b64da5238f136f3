"""What Tab offers in `lefleet`: names from the server, and nothing, without a word, where there is none."""

import pytest

from lefleet_server.accounts.models import Role
from lefleet_server.analysis import FlagName


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_tab_completes_robots_and_says_nothing_without_a_server(
    robot, enrol, with_token, stranger, free_port, shell
):
    await (await enrol("other-2")).http.aclose()
    somebody = await with_token(Role.VIEWER)
    line = "lefleet robots show rob"
    asked = {"bash": {"COMP_WORDS": line, "COMP_CWORD": "3"}}.get(shell, {"_TYPER_COMPLETE_ARGS": line})
    asked |= {"_LEFLEET_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    somebody.environment |= asked
    done = await somebody()
    assert "robot-1" in done.out and "other-2" not in done.out
    alone = stranger(LEFLEET_URL=f"http://127.0.0.1:{free_port()}", LEFLEET_TOKEN="lft_x", **asked)
    done = await alone()
    assert (done.out.strip(), done.err) == ("_files" if shell == "zsh" else "", "")


@pytest.mark.parametrize(("line", "word"), [("lefleet sets show cu", 3), ("lefleet episodes list --in-set cu", 4)])
async def test_tab_completes_sets(robot, with_token, line, word):
    somebody = await with_token()
    for name in ("cubes", "mugs"):
        await somebody.ok("sets", "create", name)
    somebody.environment |= {"_LEFLEET_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(word)}
    done = await somebody()
    assert "cubes" in done.out and "mugs" not in done.out


async def offered(somebody, line: str) -> list[str]:
    """What bash is told for the last word of the line."""
    words = {"_LEFLEET_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    somebody.environment |= words
    try:
        done = await somebody()
    finally:
        for name in words:
            del somebody.environment[name]
    assert done.err == ""
    return [each for each in done.out.split("\n") if each]


async def test_tab_completes_what_the_server_has(robot, episode_file, with_token):
    await robot.heartbeat(policy={"repo": "lab/act-cube", "commit": "c0ffee1234", "digest": "", "type": "act"})
    jpeg = b"\xff\xd8\xff" + b"p" * 100 + b"\xff\xd9"
    await robot.http.put("/api/v1/robot/cameras/wrist", content=jpeg, headers={"Content-Type": "image/jpeg"})
    path = episode_file()
    assert (await robot.upload(path)).is_success
    admin = await with_token(Role.ADMIN)
    episode = (await admin.ok("episodes", "show", path.stem, "--json")).item
    for name in ("cubes", "mugs"):
        await admin.ok("sets", "create", name)
    await admin.ok("views", "save", "Bad ones", "--health", "bad")
    await admin.ok("retention", "set", "old-failures", "--older-than-days", "90")
    await admin.ok("people", "add", "zoe")
    policy, camera = episode["policy_repo"], episode["cameras"][0]
    assert policy and camera
    for line, expected in {
        "lefleet sets show cu": ["cubes"],
        "lefleet episodes list --in-set ": ["cubes", "mugs"],
        f"lefleet episodes list --policy {policy[:3]}": [policy],
        "lefleet episodes list --policy no-such": [],
        "lefleet episodes list --flag camera_": [each.value for each in FlagName if each.startswith("camera_")],
        f"lefleet episodes show {path.stem[:4]}": [path.stem],
        "lefleet episodes label success ": [path.stem],
        "lefleet episodes download ": [path.stem],
        f"lefleet episodes picture {path.stem} {camera[:1]}": [camera],
        "lefleet robots picture robot-1 wr": ["wrist"],
        "lefleet robots list --policy lab": ["lab/act-cube"],
        "lefleet robots list --release act": ["act-cube@c0ffee1"],
        "lefleet robots list --sort s": ["state", "spool", "seen"],
        "lefleet robots list --view Bad": ["Bad ones"],
        "lefleet views delete Bad": ["Bad ones"],
        "lefleet retention enable old": ["old-failures"],
        "lefleet retention set other --robot rob": ["robot-1"],
        "lefleet people link zo": ["zoe"],
    }.items():
        assert await offered(admin, line) == expected, line


@pytest.mark.parametrize(
    "line",
    [
        "lefleet episodes show ",
        "lefleet episodes list --policy ",
        "lefleet views delete ",
        "lefleet retention enable ",
        "lefleet people link ",
        "lefleet robots picture robot-1 ",
    ],
)
async def test_tab_says_nothing_without_a_server(stranger, free_port, line):
    assert await offered(stranger(LEFLEET_URL=f"http://127.0.0.1:{free_port()}", LEFLEET_TOKEN="lft_x"), line) == []
    assert await offered(stranger(), line) == [], "who has not logged in yet"
