"""An episode's page offers it to Rerun and Foxglove, and says how to open it there."""

import pytest

MAGIC = {"mcap": b"\x89MCAP0\r\n", "rrd": b"RRF2"}


@pytest.mark.parametrize("kind", ["mcap", "rrd"])
async def test_the_menu_opens_and_gives_the_file(fleet, look, kind):
    episode = fleet.episodes[0]
    viewer = await look(fleet.url)
    await viewer.open(f"/episodes/{episode.episode_id}")
    await viewer.page.wait_for_selector("lf-player[data-state=paused]")
    menu = viewer.page.locator(".lf-menu")
    assert not await menu.is_visible()
    await viewer.page.click("text=Open in…")
    assert await menu.is_visible()
    assert "Foxglove (.mcap)" in await menu.inner_text()
    await viewer.shot("episode-open-in")
    async with viewer.page.expect_download(timeout=60_000) as coming:
        await menu.locator(f"a[href$='.{kind}']").click()
    download = await coming.value
    assert download.suggested_filename.endswith(f"{episode.episode_id}.{kind}")
    assert (await download.path()).read_bytes().startswith(MAGIC[kind])
    await viewer.page.keyboard.press("Escape")
    assert not await menu.is_visible()
