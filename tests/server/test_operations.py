"""Health, readiness, the server's metrics, and who may read them."""

import shutil

import httpx
import pytest
from sqlalchemy import text

from lefleet_server.app import create_app
from lefleet_server.config import Settings

METRICS = ["/metrics", "/api/v1/metrics/targets", "/api/v1/metrics/robot?robot=robot-1"]


async def test_healthy_and_ready(anonymous):
    assert (await anonymous.get("/healthz")).json() == {"status": "ok"}
    answer = await anonymous.get("/readyz")
    assert answer.status_code == 200
    assert set(answer.json()["checks"].values()) == {"ok"}
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_not_ready_says_why(anonymous, services):
    shutil.rmtree(services.blobs.root)
    async with services.db.transaction() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    answer = await anonymous.get("/readyz")
    assert answer.status_code == 503
    assert "lefleet-server migrate" in answer.json()["checks"]["database"]
    assert answer.json()["checks"]["blobs"] != "ok"
    assert answer.json()["checks"]["incoming"] == "ok"


async def test_metrics_count_robots_by_state_and_requests_by_route(anonymous, robot, enrol):
    other = await enrol("robot-2", site="lab")
    await robot.heartbeat()
    metrics = (await anonymous.get("/metrics")).text
    assert 'lefleet_robots{site="",state="running"} 1.0' in metrics
    assert 'lefleet_robots{site="lab",state="offline"} 1.0' in metrics
    assert 'lefleet_http_request_seconds_count{code="201",route="/api/v1/robots/enrol"} 2.0' in metrics
    assert "lefleet_episodes_received_total 0.0" in metrics
    assert "lefleet_db_pool_in_use" in metrics
    await other.http.aclose()


async def test_metrics_never_name_a_path_that_a_client_made_up(anonymous):
    await anonymous.get("/api/v1/secret-path")
    metrics = (await anonymous.get("/metrics")).text
    assert "secret-path" not in metrics
    assert 'route="unmatched"' in metrics


@pytest.mark.parametrize("path", METRICS)
async def test_metrics_are_for_this_machine_and_for_people(connect, operator, robot, path):
    await robot.heartbeat()
    async with connect("203.0.113.7") as stranger, connect("::1") as local:
        assert (await stranger.get(path)).status_code == 403
        assert (await local.get(path)).status_code == 200
        stranger.cookies = operator.cookies
        assert (await stranger.get(path)).status_code == 200


@pytest.mark.parametrize("path", METRICS)
async def test_metrics_answer_whoever_has_their_token(server_settings, robot, tmp_path, path):
    await robot.heartbeat()
    (tmp_path / "token").write_text("s3cret\n")
    settings = Settings(**server_settings | {"metrics_token_file": str(tmp_path / "token")})
    app = create_app(settings, dashboard=False)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, client=("203.0.113.7", 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as stranger:
            for sent, status in (("Bearer s3cret", 200), ("Bearer guess", 403), ("Basic s3cret", 403), ("", 403)):
                assert (await stranger.get(path, headers={"Authorization": sent})).status_code == status


@pytest.fixture
async def without_database(server_settings, postgres):
    """The API while PostgreSQL is gone."""
    url = server_settings["database_url"].replace("host=", "host=/nowhere")
    app = create_app(Settings(**server_settings | {"database_url": url}), dashboard=False)
    async with app.router.lifespan_context(app):
        yield app


async def test_without_the_database_discovery_fails_instead_of_dropping_every_robot(without_database):
    transport = httpx.ASGITransport(without_database, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        answers = {path: (await client.get(path)).status_code for path in (*METRICS, "/readyz", "/healthz", "/metrics")}
    assert answers == {
        "/metrics": 200,
        "/api/v1/metrics/targets": 503,
        "/api/v1/metrics/robot?robot=robot-1": 503,
        "/readyz": 503,
        "/healthz": 200,
    }


async def test_an_unknown_path_and_method_are_problems(anonymous):
    for method, path, status in (("GET", "/api/v1/none", 404), ("DELETE", "/api/v1/login", 405)):
        answer = await anonymous.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
