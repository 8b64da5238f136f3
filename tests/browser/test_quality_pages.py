"""What workers found: badges, a filter, the reason of a quarantine, another check; and the queue's own page."""

import pytest
from sqlalchemy import text


async def shown(viewer):
    rows = viewer.page.locator("a.lf-row")
    return [await row.get_attribute("data-episode") for row in await rows.all()]


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        ("clean", {"clean"}),
        ("flagged", {"flagged"}),
        ("dropped_frames", {"flagged"}),
        ("jerk", {"flagged"}),
        ("camera_dark", set()),
        ("quarantined", {"quarantined"}),
        ("pending", {"waiting"}),
    ],
)
async def test_quality_is_a_filter(house, look, quality, expected):
    viewer = await look(house.url, "vic")
    await viewer.open("/episodes")
    await viewer.page.select_option("[aria-label=Quality]", quality)
    await viewer.page.wait_for_url(f"**/episodes?quality={quality}")
    wanted = [getattr(house, name) for name in expected]
    await viewer.page.wait_for_function("n => document.querySelectorAll('a.lf-row').length === n", arg=len(wanted))
    assert await shown(viewer) == wanted


@pytest.mark.parametrize("quality", ["clean", "flagged", "jerk", "quarantined", "pending"])
async def test_what_quality_lets_through_is_all_that_is_compared_and_collected(house, look, quality):
    viewer = await look(house.url, "ada")
    page = viewer.page
    await viewer.open(f"/compare?quality={quality}")
    await page.wait_for_selector("text=1 episodes of these filters")
    await viewer.open("/sets")
    await page.fill("[aria-label=Name]", quality)
    await page.click("text=Create")
    await page.wait_for_selector(f"[data-set={quality}]")
    await viewer.open(f"/episodes?quality={quality}")
    await page.select_option("[aria-label='Add to a set']", f"add-all:{quality}")
    await page.click("[role=alertdialog] >> text='Add'")
    await page.wait_for_selector(f"text=1 new in {quality}")
    await viewer.open(f"/episodes?set={quality}")
    await page.wait_for_selector("a.lf-row")
    assert await shown(viewer) == [getattr(house, {"jerk": "flagged", "pending": "waiting"}.get(quality, quality))]


async def test_badges_say_what_was_measured_and_against_what(house, look):
    viewer = await look(house.url, "vic")
    await viewer.open("/episodes")
    row = viewer.page.locator(f"[data-episode='{house.flagged}']")
    tip = await row.locator("text=Dropped frames").get_attribute("title")
    assert tip == "Dropped frames: 9.1 %, at most 1.0 %"
    tip = await row.locator("text=Jerk").get_attribute("title")
    assert tip.startswith("Jerk of shoulder_lift: ") and "at most 50\u2009000 units/s³" in tip
    wrong = viewer.page.locator(f"[data-episode='{house.quarantined}'] >> text=Quarantined")
    assert "elbow_flex is nan at tick 3" in await wrong.get_attribute("title")
    await viewer.open(f"/episodes/{house.flagged}")
    panel = await viewer.page.inner_text(".lf-quality")
    assert "9.1 %" in panel and "shoulder_lift" in panel
    assert await viewer.page.is_disabled("text=Check again")
    await viewer.open(f"/episodes/{house.quarantined}")
    assert "elbow_flex is nan at tick 3" in await viewer.page.inner_text(".lf-quality")
    await viewer.open(f"/episodes/{house.clean}")
    assert "No flags" in await viewer.page.inner_text(".lf-quality")
    await viewer.open(f"/episodes/{house.waiting}")
    assert "Not checked yet" in await viewer.page.inner_text(".lf-quality")


async def test_a_dead_job_shows_its_reason_and_is_retried_after_a_question(house, look):
    viewer = await look(house.url, "vic")
    await viewer.open("/jobs")
    assert "the store does not answer" in await viewer.page.inner_text("[data-job]")
    assert await viewer.page.is_disabled("[data-job] >> text=Retry")
    operator = await look(house.url, "ada")
    page = operator.page
    await operator.open("/jobs?state=dead")
    await page.click("[data-job] >> text=Retry")
    await page.wait_for_timeout(400)  # it fades in
    await operator.shot("jobs-question")
    await page.click(".lf-question .is-danger")
    await page.wait_for_selector("text=1 queued again")
    await page.wait_for_selector("text=No dead job")
    await viewer.page.wait_for_selector("[data-job] >> text=Queued")
    entry = house.entries(action="jobs")[0]
    assert (entry["action"], entry["actor"], entry["address"]) == ("jobs.retried", "user:ada", "127.0.0.1")


async def test_jobs_without_a_worker_are_said_to_be_so(house, look):
    async def age(session):
        await session.execute(text("UPDATE jobs SET created_at = now() - interval '1 hour', state = 'queued'"))

    house.server.do(age)
    viewer = await look(house.url, "vic")
    await viewer.open("/jobs")
    assert await viewer.page.is_visible("text=no worker is there")
    assert "1:00:" in await viewer.page.locator(".lf-stat-value").nth(3).inner_text()


async def test_another_check_is_asked_for_and_done_by_a_worker(house, look):
    operator = await look(house.url, "ada")
    await operator.open(f"/episodes/{house.quarantined}")
    await operator.page.click("text=Check again")
    await operator.page.wait_for_selector("text=A worker looks at it again")
    await operator.open("/jobs")
    await operator.page.wait_for_selector(f"[data-job] [href='/episodes/{house.quarantined}']")
    entry = house.entries(action="episode.check-asked")[0]
    assert (entry["actor"], entry["subject"]) == ("user:ada", f"episode:{house.quarantined}")


async def test_storage_counts_what_is_there_and_what_comes(house, look):
    viewer = await look(house.url, "vic")
    await viewer.open("/storage")
    page = viewer.page
    assert await page.locator(".lf-stat-value").first.inner_text() == "4"
    assert await page.locator(".lf-stat-value").nth(3).inner_text() == "1"
    assert "50 %" in await page.inner_text("[data-upload]")
    assert "3" in await page.inner_text("[data-robot=robot-1]")
    await page.click("text=files that are wrong")
    await page.wait_for_url("**/episodes?quality=quarantined")
    assert await shown(viewer) == [house.quarantined]
