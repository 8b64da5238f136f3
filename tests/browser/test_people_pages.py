"""People and their log-ins: invited, changed, put out; and what each keeps for themselves."""

import uuid
from contextlib import asynccontextmanager

import pytest


@pytest.fixture
def newcomer():
    return f"eve-{uuid.uuid4().hex[:6]}"


@asynccontextmanager
async def invited(house, look, name, role="viewer"):
    """A person made on the page; yields the administrator's browser and the link that it showed."""
    admin = await look(house.url, "root")
    page = admin.page
    await admin.open("/people")
    await page.keyboard.press("a")
    await page.fill("[name=username]", name)
    await page.select_option("[name=role]", role)
    await page.press("[name=username]", "Enter")
    await page.wait_for_selector(".lf-secret:visible")
    yield admin, await page.inner_text(".lf-secret")


async def test_a_person_is_invited_by_a_link_that_is_shown_once(house, look, newcomer):
    async with invited(house, look, newcomer) as (admin, link):
        await admin.page.wait_for_timeout(400)  # it fades in
        await admin.shot("people-link")
        await admin.page.click("text=Done")
        await admin.page.wait_for_selector(f"[data-person={newcomer}]")
        await admin.page.wait_for_selector(".lf-secret", state="detached")
        assert link not in await admin.page.content()
    guest = await look(house.url, username=None)
    await guest.page.goto(link)
    await guest.page.wait_for_url(f"{house.url}/")
    assert newcomer in await guest.page.inner_text(".lf-person")
    assert [entry["action"] for entry in house.entries(subject=f"user:{newcomer}")] == [
        "user.logged-in",
        "user.login-code",
        "user.added",
    ]
    assert {entry["actor"] for entry in house.entries(subject=f"user:{newcomer}")} == {"user:root", f"user:{newcomer}"}


async def test_a_name_that_is_taken_is_said_in_the_form(house, look):
    admin = await look(house.url, "root")
    await admin.open("/people")
    await admin.page.click("text=Add a person")
    await admin.page.fill("[name=username]", "vic")
    await admin.page.click(".q-dialog button[type=submit]")
    note = admin.page.locator(".q-dialog [role=alert]")
    await note.wait_for()
    assert "There is an account 'vic' already" in await note.inner_text()
    await admin.page.fill("[name=username]", "no spaces please")
    await admin.page.click(".q-dialog button[type=submit]")
    await admin.page.wait_for_function(
        "document.querySelector('.q-dialog [role=alert]').textContent.includes('Username')"
    )


async def test_a_role_counts_at_once_and_a_disabled_person_is_out(house, look, newcomer):
    async with invited(house, look, newcomer) as (admin, link):
        guest = await look(house.url, username=None)
        await guest.page.goto(link)
        await guest.page.wait_for_url(f"{house.url}/")
        page = admin.page
        await admin.open(f"/people/{newcomer}")
        await page.click(".lf-roles >> text=Operator")
        await page.wait_for_selector(".lf-roles [aria-pressed=true] >> text=Operator")
        await guest.open("/jobs")
        assert not await guest.page.is_disabled("text=Retry all dead")
        await page.wait_for_selector("[data-session] >> text=Chrome on Linux")

        await page.click("button:has-text('Disable')")
        await page.click(".lf-question:visible >> text=Cancel")
        await page.wait_for_selector(".lf-question", state="hidden")
        assert house.entries(subject=f"user:{newcomer}")[0]["action"] == "user.changed"
        await page.click("button:has-text('Disable')")
        await page.click(".lf-question .is-danger")
        await page.wait_for_selector("h1 + .lf-chip:visible >> text=Disabled")
        await page.wait_for_selector("text=No log-ins")
        await guest.page.goto(f"{house.url}/jobs")
        assert "/login" in guest.page.url
        assert house.entries(subject=f"user:{newcomer}")[1]["detail"]["new"]["disabled"] is True
        await page.click("text=Enable")
        await page.wait_for_selector("button:has-text('Make a log-in link'):visible")


async def test_the_last_administrator_cannot_be_put_out(house, look):
    admin = await look(house.url, "root")
    await admin.open("/people/root")
    await admin.page.click(".lf-roles >> text=Viewer")
    await admin.page.wait_for_selector("text=Root is the last administrator")
    await admin.page.wait_for_selector(".lf-roles [aria-pressed=true] >> text=Admin")


async def test_an_account_nobody_has_says_so(house, look):
    admin = await look(house.url, "root")
    await admin.open("/people/nobody")
    await admin.page.click("text=Back to the people")
    await admin.page.wait_for_url("**/people")


async def test_one_changes_ones_password_and_ends_ones_other_log_ins(house, look, newcomer):
    async with invited(house, look, newcomer) as (_, link):
        pass
    mine = await look(house.url, username=None)
    await mine.page.goto(link)
    await mine.page.wait_for_url(f"{house.url}/")
    await mine.open("/account")
    page = mine.page
    assert not await page.is_visible("[name=old]"), "nobody has an old password yet"
    await page.fill("[name=new]", "my first password")
    await page.fill("[name=again]", "my frist password")
    await page.click("text=Set password")
    await page.wait_for_selector("[role=alert] >> text=The two new passwords differ")
    await page.fill("[name=again]", "my first password")
    await page.press("[name=again]", "Enter")
    await page.wait_for_selector("[name=old]")
    await page.wait_for_selector("text=Your other log-ins and unused links have ended.")

    other = await look(house.url, username=None)
    await other.log_in(newcomer, "my first password")
    await other.page.wait_for_url(f"{house.url}/")
    await mine.open("/account")
    assert await page.locator("[data-session]").count() == 2
    await page.fill("[name=old]", "not my password")
    await page.fill("[name=new]", "my second password")
    await page.fill("[name=again]", "my second password")
    await page.click("text=Change password")
    await page.wait_for_selector("[role=alert] >> text=The old password is wrong")
    await page.click("text=End all others")
    await page.click(".lf-question .is-danger")
    await page.wait_for_function("document.querySelectorAll('[data-session]').length === 1")
    await other.page.goto(f"{house.url}/account")
    assert "/login" in other.page.url
    assert await page.is_visible("text=This one")
