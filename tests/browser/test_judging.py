"""Judging one episode after another at one key each while others arrive, page by page, and all that match at once."""

import time

import drawn_episode
import httpx
import pytest
from drawn_episode import Drawing
from house import PASSWORD

EPISODES = 23
AT = "a.lf-row.is-at"
SAID = ".lf-selection-said"


class Judging:
    """A server with more episodes of one robot than a page holds, newest first."""

    def __init__(self, server, folder):
        self.url, self.folder = server.url, folder
        self.robot = server.enrol("robot-1")
        self.ids = [self.upload(minutes) for minutes in range(EPISODES, 0, -1)][::-1]
        self.client = httpx.Client(base_url=f"{self.url}/api/v1", timeout=30)
        self.client.post("login", json={"username": "ada", "password": PASSWORD}).raise_for_status()

    def upload(self, minutes):
        """One that began so long ago."""
        made = Drawing("robot-1", time.time_ns() - int(minutes * 60e9), ticks=6)
        self.robot.upload(drawn_episode.write(self.folder, made))
        return made.episode_id

    def labels(self):
        items = self.client.get("episodes", params={"limit": 500}).raise_for_status().json()["items"]
        return {each["id"]: each["label_outcome"] for each in items if each["label_outcome"]}

    def unlabel(self):
        if left := self.labels():
            labels = [{"id": id_, "outcome": None} for id_ in left]
            self.client.patch("episodes", json={"labels": labels}).raise_for_status()


@pytest.fixture(scope="module")
def server(serve, tmp_path_factory):
    made = Judging(serve("judging"), tmp_path_factory.mktemp("judging"))
    yield made
    made.client.close()
    made.robot.close()


@pytest.fixture
def judging(server):
    server.unlabel()
    return server


async def opened(look, judging, path="/episodes"):
    viewer = await look(judging.url)
    await viewer.open(path)
    return viewer.page


async def labelled(page, judging, expected):
    for _ in range(200):
        if judging.labels() == expected:
            return
        await page.wait_for_timeout(50)
    assert judging.labels() == expected


async def shown(page, id_):
    """Until the server has shown the label of this one."""
    await page.wait_for_selector(f"[data-episode='{id_}'] >> text=labelled")


async def at_once(page, keys):
    """Faster than anything can be answered."""
    press = "(key) => document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))"
    await page.evaluate(f"keys => keys.forEach({press})", list(keys))


async def test_the_mark_stays_on_its_episode_while_others_arrive(look, judging):
    page = await opened(look, judging)
    first, second, third, *_, last = judging.ids[:20]
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await page.click(f"[data-episode='{last}'] .lf-check")
    await page.keyboard.press("l")
    await page.keyboard.type("seen")
    judging.ids.insert(0, judging.upload(0.5))
    judging.ids.insert(3, judging.upload(2.5))
    await page.keyboard.press("Enter")
    await page.wait_for_selector("button:visible >> text=Undo")
    assert await page.get_attribute("lf-selection", "data-chosen") == "1", "what is chosen is not pushed off the page"
    await page.keyboard.press("Escape")
    await page.keyboard.press("s")
    await shown(page, second)
    assert await page.get_attribute(AT, "data-episode") == third
    await page.keyboard.press("f")
    await labelled(page, judging, {second: "success", third: "failure"})
    assert await page.get_attribute("a.lf-row", "data-episode") == first, "they are offered, and push nothing away"
    await page.click("text=New episodes")
    await page.wait_for_selector(f"[data-episode='{judging.ids[0]}']")
    assert await page.get_attribute(AT, "data-episode") == judging.ids[5]


@pytest.mark.parametrize("path", ["/episodes?labelled=no", "/episodes?labelled=no&outcome=success"])
async def test_none_is_skipped_of_those_that_leave_the_list(look, judging, path):
    page = await opened(look, judging, path)
    await page.keyboard.press("j")
    for number, key in enumerate("sfu"):
        assert await page.get_attribute(AT, "data-episode") == judging.ids[number]
        await page.keyboard.press(key)
        await page.wait_for_selector(f"[data-episode='{judging.ids[number]}']", state="detached")
    expected = dict(zip(judging.ids, ("success", "failure", "unknown"), strict=False))
    await labelled(page, judging, expected)
    assert await page.get_attribute(AT, "data-episode") == judging.ids[3]
    await at_once(page, "sss")
    await labelled(page, judging, expected | dict.fromkeys(judging.ids[3:6], "success"))
    await page.keyboard.press("z")
    await page.wait_for_selector(f"a.lf-row:first-of-type[data-episode='{judging.ids[5]}']")


async def test_the_last_row_turns_the_page_and_the_last_of_all_takes_no_further_key(look, judging):
    page = await opened(look, judging)
    rows = [await row.get_attribute("data-episode") for row in await page.locator("a.lf-row").all()]
    await page.keyboard.press("e")
    await at_once(page, "sfu")
    await page.wait_for_url("**/episodes?before=*")
    await page.wait_for_selector(AT)
    await page.wait_for_function("window.did_handshake === true")
    assert await page.get_attribute(AT, "data-episode") == judging.ids[20]
    assert set(judging.labels()) & set(rows) == {rows[-1]} and judging.labels()[rows[-1]] == "success"
    await page.keyboard.press("k")
    await page.wait_for_url("**/episodes?after=*")
    await page.wait_for_selector(f"{AT}[data-episode='{rows[-1]}']")
    await page.keyboard.press("j")
    await page.wait_for_url("**/episodes?before=*")
    await page.wait_for_selector(f"{AT}[data-episode='{judging.ids[20]}']")
    await page.wait_for_function("window.did_handshake === true")
    judging.unlabel()
    await page.keyboard.press("e")
    await at_once(page, "fsu")
    await page.wait_for_selector(f"{SAID} >> text=That was the last one")
    await shown(page, judging.ids[-1])
    assert judging.labels() == {judging.ids[-1]: "failure"}


async def test_all_that_match_are_labelled_after_a_question_that_counts_them(look, judging):
    page = await opened(look, judging)
    await page.keyboard.press("j")
    await page.keyboard.press("f")
    await shown(page, judging.ids[0])
    many = len(judging.ids)
    everything = "[aria-label='Label all that match']"
    await page.select_option(everything, "success")
    asked = await page.inner_text("[role=alertdialog]")
    assert f"Label {many} episodes as success?" in asked and "1 of them has a label that is replaced" in asked
    await page.click("[role=alertdialog] >> text=Cancel")
    await page.wait_for_selector("[role=alertdialog]", state="hidden")
    assert judging.labels() == {judging.ids[0]: "failure"}
    await page.select_option(everything, "success")
    await page.click("[role=alertdialog] >> text=Label them")
    await page.wait_for_selector(f"text={many} episodes labelled as success")
    assert judging.labels() == dict.fromkeys(judging.ids, "success")
    await page.wait_for_selector("[role=alertdialog]", state="hidden")  # keys rest until it has faded
    await page.keyboard.press("z")
    await labelled(page, judging, {judging.ids[0]: "failure"})


async def test_all_that_match_go_into_a_set_and_out_of_it_after_a_question(look, judging):
    judging.client.post("sets", json={"name": "good"}).raise_for_status()
    page = await opened(look, judging)
    many = len(judging.ids)
    select = "[aria-label='Add to a set']"
    for word, asked, yes, said, holds in (
        ("add-all:good", f"Add {many} episodes to good?", "Add", f"{many} new in good", many),
        ("remove-all:good", f"Take {many} episodes out of good?", "Take out", f"{many} out of good", 0),
    ):
        for answer in ("Cancel", yes):
            before = judging.client.get("sets/good").json()["episodes"]
            await page.select_option(select, word)
            await page.wait_for_selector(f"[role=alertdialog] >> text={asked}")
            await page.click(f"[role=alertdialog] >> text='{answer}'")
            await page.wait_for_selector("[role=alertdialog]", state="hidden")
            if answer == "Cancel":
                assert judging.client.get("sets/good").json()["episodes"] == before
        await page.wait_for_selector(f"text={said}")
        assert judging.client.get("sets/good").json()["episodes"] == holds
    judging.client.delete("sets/good").raise_for_status()
