"""Nobody gets in without logging in, and a log-in link is spent only by a person."""

import httpx
import pytest


@pytest.mark.parametrize("path", ["/", "/episodes", "/episodes/0", "/no-such-page", "/_nicegui_ws/socket.io/"])
def test_every_page_leads_to_the_log_in(fleet, path):
    answer = httpx.get(fleet.url + path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")


def test_an_unknown_address_of_the_api_is_told_as_a_problem(fleet):
    answer = httpx.get(f"{fleet.url}/api/v1/nothing")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_password_opens_the_page_that_was_wanted(fleet, look):
    viewer = await look(fleet.url, username=None)
    await viewer.page.goto(f"{fleet.url}/episodes?robot=robot-2")
    await viewer.page.fill("[name=username]", "ada")
    await viewer.page.fill("[name=password]", "a long enough password")
    await viewer.page.press("[name=password]", "Enter")
    await viewer.page.wait_for_url(f"{fleet.url}/episodes?robot=robot-2")


async def test_a_wrong_password_says_so_and_lets_one_try_again(fleet, look):
    viewer = await look(fleet.url, username=None)
    await viewer.log_in(password="not the password")
    await viewer.page.wait_for_selector("[role=alert]:visible")
    assert "Wrong username or password" in await viewer.page.inner_text("[role=alert]")
    await viewer.shot("login-wrong-password")
    assert viewer.errors == ["Failed to load resource: the server responded with a status of 401 (Unauthorized)"]
    viewer.errors.clear()
    await viewer.log_in()
    await viewer.page.wait_for_url(f"{fleet.url}/")


async def test_a_link_logs_in_once_and_fetching_it_does_not_spend_it(fleet, look):
    link = fleet.server.login_link("ada")
    first = await look(fleet.url, username=None)
    assert (await first.page.request.get(link)).ok  # as a mail program does
    await first.page.goto(link)
    await first.page.wait_for_url(f"{fleet.url}/")
    second = await look(fleet.url, username=None)
    await second.page.goto(link)
    await second.page.wait_for_selector("[role=alert]:visible")
    assert "used or has expired" in await second.page.inner_text("[role=alert]")
    assert await second.page.is_visible("[name=username]")
    second.errors.clear()


async def test_the_log_in_leads_to_no_other_site(fleet, look):
    viewer = await look(fleet.url, username=None)
    await viewer.page.goto(f"{fleet.url}/login?next=//example.org/")
    await viewer.page.fill("[name=username]", "ada")
    await viewer.page.fill("[name=password]", "a long enough password")
    await viewer.page.click("button[type=submit]")
    await viewer.page.wait_for_url(f"{fleet.url}/")


async def test_logging_out_ends_it(fleet, look):
    viewer = await look(fleet.url)
    await viewer.open("/")
    await viewer.page.click("[data-log-out]")
    await viewer.page.wait_for_url(f"{fleet.url}/login")
    await viewer.page.goto(f"{fleet.url}/episodes")
    assert "/login" in viewer.page.url


async def test_a_provider_is_a_button_and_what_is_wrong_with_it_is_said(serve, look, oidc_provider, oidc):
    given = {"oidc_client_id": "lefleet", "oidc_create_accounts": True, "oidc_name": "Lab <account>"}
    server = serve("by_provider", oidc_issuer=oidc_provider.url, **given)
    oidc_provider.know("sub-oda", preferred_username="oda")
    viewer = await look(server.url, username=None)
    await viewer.page.goto(f"{server.url}/login?next=/episodes")
    assert await viewer.page.inner_text("#provider") == "Log in with Lab <account>"
    await viewer.shot("login-provider")
    await viewer.page.click("#provider")
    await viewer.page.fill("[name=sub]", "sub-oda")
    await viewer.page.press("[name=sub]", "Enter")
    await viewer.page.wait_for_url(f"{server.url}/episodes")
    viewer.errors.clear()  # of the provider's own page, which loads from elsewhere

    down = serve("without_provider", oidc_issuer="http://127.0.0.1:9", **given)
    viewer = await look(down.url, username=None)
    await viewer.page.goto(f"{down.url}/login")
    await viewer.page.click("#provider")
    await viewer.page.wait_for_selector("[role=alert]:visible")
    assert "cannot be used now" in await viewer.page.inner_text("[role=alert]")
    await viewer.shot("login-provider-down")
    await viewer.log_in()
    await viewer.page.wait_for_url(f"{down.url}/")
