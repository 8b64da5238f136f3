"""A press on a page that was drawn for a role its person no longer has."""

from functools import partial

import pytest
from playwright.async_api import Error as PlaywrightError
from served import PASSWORD

from lefleet_server.accounts import service as accounts
from lefleet_server.accounts.models import Role

_TRIES = 10


async def pressed_after(server, look, path: str, press: str, answered: str, *, becomes: Role, name: str):
    """Open `path` as an administrator who then `becomes` less, `press` there (a selector) and wait until `answered`
    (JavaScript) is true; returns the viewer, whose page has been drawn anew by then.

    Every open page is looked after each three seconds and drawn anew for who may do less, so that a press may find
    another page than it was meant for: it is tried again then, from the start.
    """
    server.do(partial(accounts.put_user, username=name, role=Role.ADMIN, password=PASSWORD, actor="test"))
    change = partial(accounts.change_user, username=name, actor="test")
    viewer = await look(server.url, name)
    for _ in range(_TRIES):
        server.do(partial(change, role=Role.ADMIN))
        await viewer.open(path)
        server.do(partial(change, role=becomes))
        try:
            await viewer.page.evaluate("window.marked = true")
            await viewer.page.click(press, timeout=4000)
            await viewer.page.wait_for_function(answered, timeout=4000)
        except PlaywrightError:  # drawn anew before
            continue
        await viewer.page.wait_for_function("!window.marked && document.readyState === 'complete'")
        return viewer
    pytest.fail(f"no press of {_TRIES} was answered before the page was drawn anew")
