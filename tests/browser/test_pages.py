"""Who may see which page: every page of the dashboard, opened by everybody. A page that is not in the table fails."""

import json
import subprocess
import sys
from http import HTTPStatus

import httpx
import pytest

PASSWORD = "a long enough password"
# What each page needs. Everything else of the dashboard leads to the log-in (test_login.py).
PAGES = {
    "/": "viewer",
    "/robots/{robot_id}": "viewer",
    "/episodes": "viewer",
    "/episodes/{episode_id}": "viewer",
    "/compare": "viewer",
    "/sets": "viewer",
    "/storage": "viewer",
    "/jobs": "viewer",
    "/tokens": "viewer",
    "/account": "viewer",
    "/people": "admin",
    "/people/{username}": "admin",
    "/audit": "admin",
    "/holds": "viewer",
}
PEOPLE = {"viewer": "vic", "operator": "ada", "admin": "root"}
RANK = ["viewer", "operator", "admin"]
_LIST = """
import json, pathlib
from lefleet_server.app import create_app
from lefleet_server.config import Settings
create_app(Settings(state_dir=pathlib.Path("state")))
from nicegui.client import Client
print(json.dumps(sorted(Client.page_routes.values())))
"""


@pytest.fixture(scope="module")
def everybody(house):
    """Clients with a session, by role."""
    made = {role: httpx.Client(base_url=house.url, timeout=30) for role in PEOPLE}
    for role, client in made.items():
        client.post("/api/v1/login", json={"username": PEOPLE[role], "password": PASSWORD}).raise_for_status()
    made["anonymous"] = httpx.Client(base_url=house.url, timeout=30)
    yield made
    for client in made.values():
        client.close()


def test_every_page_is_in_the_table():
    done = subprocess.run([sys.executable, "-c", _LIST], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) == set(PAGES)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_lets_in_whom_it_states_and_nobody_else(house, everybody, path):
    place = path.format(episode_id=house.clean, username="vic", robot_id="robot-1")
    for who, client in everybody.items():
        answer = client.get(place)
        if who == "anonymous":
            assert answer.status_code == HTTPStatus.SEE_OTHER
            assert answer.headers["location"].startswith("/login")
            continue
        may = RANK.index(who) >= RANK.index(PAGES[path])
        assert answer.status_code == (HTTPStatus.OK if may else HTTPStatus.FORBIDDEN), f"{who}: {path}"
        refused = "This page is not yours to see" in answer.text
        assert refused != may, f"{who}: {path}"


@pytest.mark.parametrize("who", PEOPLE)
def test_the_navigation_shows_what_one_may_see(everybody, who):
    page = everybody[who].get("/").text
    for section in ("/people", "/audit"):
        assert (f'"href":"{section}"' in page.replace(" ", "").replace("&quot;", '"')) == (who == "admin")


@pytest.mark.parametrize("path", ["/people/%00", "/people/no%20one", "/people/..%2F..", "/audit?before=0&subject=%00"])
def test_an_odd_address_of_a_page_is_answered(everybody, path):
    assert everybody["admin"].get(path).status_code in {HTTPStatus.OK, HTTPStatus.NOT_FOUND}


@pytest.mark.parametrize("path", ["/audit", "/holds"])
def test_a_number_with_more_digits_than_python_reads_is_the_first_page(everybody, path):
    assert everybody["admin"].get(path, params={"before": "9" * 5000}).status_code == HTTPStatus.OK


def test_the_address_of_the_store_is_the_administrators(house, everybody):
    place = house.server.settings["state_dir"]
    assert place in everybody["admin"].get("/storage").text
    assert place not in everybody["operator"].get("/storage").text
