"""The host's heat, drift and Prometheus' alerts, on the fleet's page and a robot's."""

import time

import pytest
from test_phone import PHONE
from test_robot import JOINTS, METRICS

HOURS_S = 3 * 3600 + 60
HEAT = {"zone": "cpu-thermal", "celsius": 91.4}


@pytest.fixture(scope="module")
def watched(serve, prometheus, tmp_path_factory):
    """A server whose Prometheus alerts about robot-1 and about no robot; robot-2 has an older agent."""
    fires = prometheus.fires
    with prometheus.running(
        tmp_path_factory.mktemp("prometheus"),
        fires(
            "SpoolGrows", summary="12 or more episodes waited for six hours", robot_id="robot-1", severity="critical"
        ),
        fires("BackupOld", summary="the newest backup is 2d 0h 0m 0s old", severity="critical"),
    ) as running:
        server = serve("health", prometheus_url=running.url)
        robots = {name: server.enrol(name) for name in ("robot-1", "robot-2")}
        yield server, robots, running
        for robot in robots.values():
            robot.close()


def tell(robots) -> None:
    drift = {"roles": ["swap", "docker"], "checked_unix_s": int(time.time()) - HOURS_S}
    robots["robot-1"].heartbeat(temperature=HEAT, drift=drift, joints=JOINTS, metrics=METRICS)
    robots["robot-2"].heartbeat(metrics=METRICS)


async def test_a_robot_says_how_hot_it_is_where_it_differs_and_what_is_alerted_about_it(watched, look):
    server, robots, _ = watched
    tell(robots)
    viewer = await look(server.url)
    await viewer.open("/?view=cards")
    page = viewer.page
    issues = page.locator("[data-robot=robot-1] .lf-issue")
    assert await issues.all_inner_texts() == [
        "Alert SpoolGrows: 12 or more episodes waited for six hours",
        "gripper at 56 °C",
        "Host at 91 °C (cpu-thermal)",
        "Differs from its roles: swap, docker (compared 3 hours ago)",
    ]
    assert await page.locator(".lf-fleet-alerts .lf-issue").all_inner_texts() == [
        "Alert BackupOld: the newest backup is 2d 0h 0m 0s old"
    ]
    host = page.locator("[data-robot=robot-1] .lf-facts > div:has-text('Host')")
    assert "91 °C" in await host.inner_text()
    assert not await page.is_visible("[data-robot=robot-2] .lf-facts > div:has-text('Host')"), "an older agent"
    await viewer.open("/?view=table")
    cells = page.locator("[data-robot]:has(.lf-robot-line-host) .lf-robot-line-host")
    assert await cells.all_inner_texts() == ["91 °C", "—"]
    await page.click("[data-sort=host]")
    await viewer.open("/robots/robot-1")
    assert "91 °C (cpu-thermal)" in await page.inner_text("dt:text-is('Host at') + dd")
    assert "swap, docker (compared 3 hours ago)" in await page.inner_text("dt:text-is('Drift') + dd")
    assert "Alert SpoolGrows" in await page.inner_text(".lf-robot-issues")
    await viewer.open("/robots/robot-2")
    assert not await page.is_visible("dt:text-is('Host at')") and not await page.is_visible("dt:text-is('Drift')")
    robots["robot-2"].heartbeat(drift={"roles": [], "checked_unix_s": int(time.time())})
    await page.wait_for_selector("dt:text-is('Drift') + dd >> text=none (compared just now)")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("device", ["desk", "phone"])
async def test_how_it_looks(watched, look, device, theme):
    server, robots, _ = watched
    viewer = await look(server.url, **(PHONE if device == "phone" else {}))
    await viewer.page.context.add_cookies([{"name": "lefleet_theme", "value": theme, "url": server.url}])
    for name, path in {"cards": "/?view=cards", "table": "/?view=table", "robot": "/robots/robot-1"}.items():
        tell(robots)
        await viewer.open(path)
        await viewer.page.wait_for_selector(".lf-issue >> text=SpoolGrows" if name != "table" else "[data-robot]")
        assert await viewer.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await viewer.shot(f"{device}-health-{name}-{theme}")


async def test_alerts_that_are_unknown_are_said_to_be_so(watched, look):
    server, _, running = watched
    viewer = await look(server.url)
    await viewer.open("/?view=cards")
    running.stop()
    await viewer.page.wait_for_selector("text=Alerts unknown since", timeout=60_000)
    assert "Prometheus does not answer" in await viewer.page.inner_text(".lf-unknown")
    await viewer.shot("desk-health-unknown")
