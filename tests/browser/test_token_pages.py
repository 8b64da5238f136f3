"""API tokens on their page: made, shown once, used, revoked; an administrator sees everybody's."""

import uuid

import httpx
import pytest


@pytest.fixture
def name():
    return f"training {uuid.uuid4().hex[:6]}"


async def made(viewer, name, *scopes):
    """Makes a token on the page; returns its secret."""
    page = viewer.page
    await viewer.open("/tokens")
    await page.keyboard.press("n")
    await page.fill("[name=name]", name)
    for scope in scopes:
        await page.check(f"[name=scopes][value={scope}]")
    await page.select_option("[name=days]", "7")
    await page.wait_for_timeout(400)  # it fades in
    await viewer.shot("tokens-new")
    await page.click("text=Make the token")
    await page.wait_for_selector(".lf-secret:visible")
    secret = await page.inner_text(".lf-secret")
    await page.wait_for_timeout(400)
    await viewer.shot("tokens-secret")
    return secret


def answer(house, secret):
    return httpx.get(f"{house.url}/api/v1/me", headers={"Authorization": f"Bearer {secret}"}).status_code


async def test_a_token_is_shown_once_works_and_is_revoked_after_a_question(house, look, name):
    viewer = await look(house.url, "vic", permissions=["clipboard-read", "clipboard-write"])
    secret = await made(viewer, name)
    page = viewer.page
    await page.click(".q-dialog button:has-text('Copy')")
    assert await page.evaluate("navigator.clipboard.readText()") == secret
    assert answer(house, secret) == 200
    await page.click("text=Done")
    line = page.locator(f"[data-token='{name}']")
    await line.wait_for()
    assert "read" in await line.inner_text()
    await page.wait_for_selector(".lf-secret", state="detached")
    assert secret not in await page.content()
    await line.locator("text=Revoke").click()
    await page.click(".lf-question:visible >> text=Cancel")
    assert answer(house, secret) == 200
    await page.wait_for_selector(".lf-question", state="hidden")
    await line.locator("text=Revoke").click()
    await page.click(".lf-question .is-danger")
    await line.wait_for(state="detached")
    assert answer(house, secret) == 401


@pytest.mark.parametrize(("who", "scopes"), [("vic", 2), ("ada", 3), ("root", 4)])
async def test_a_form_offers_the_scopes_that_one_has_use_for(house, look, who, scopes):
    viewer = await look(house.url, who)
    await viewer.open("/tokens")
    await viewer.page.click("text=New token")
    await viewer.page.wait_for_selector("[name=scopes]")
    assert await viewer.page.locator("[name=scopes]").count() == scopes
    assert await viewer.page.is_visible("text=Everybody's") == (who == "root")


async def test_an_administrator_sees_and_revokes_everybodys(house, look, name):
    viewer = await look(house.url, "vic")
    secret = await made(viewer, name, "metrics")
    admin = await look(house.url, "root")
    await admin.open("/tokens")
    assert not await admin.page.is_visible(f"[data-token='{name}']")
    await admin.page.click("text=Everybody's")
    line = admin.page.locator(f"[data-token='{name}']")
    await line.wait_for()
    assert "vic" in await line.inner_text()
    await admin.shot("tokens-everybodys")
    await viewer.open("/tokens?whose=all")
    assert not await viewer.page.is_visible(".lf-table >> text=Owner"), "everybody's are the administrators' to see"
    await line.locator("text=Revoke").click()
    await admin.page.click(".lf-question .is-danger")
    await line.wait_for(state="detached")
    assert answer(house, secret) == 401
    entry = house.entries(action="token.revoked")[0]
    assert entry["actor"] == "user:root" and secret not in str(entry)


async def test_a_token_without_scopes_is_refused_in_the_form(house, look, name):
    viewer = await look(house.url, "vic")
    await viewer.open("/tokens")
    await viewer.page.click("text=New token")
    await viewer.page.fill("[name=name]", name)
    await viewer.page.uncheck("[name=scopes][value=read]")
    await viewer.page.click("text=Make the token")
    await viewer.page.wait_for_selector(".q-dialog [role=alert] >> text=Scopes")
