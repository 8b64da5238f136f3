"""`lefleet-server` as a person and as Ansible call it; the embedded PostgreSQL as a supervisor runs it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from lefleet_server import cluster


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lefleet_server", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


@pytest.fixture
def config(server_settings, tmp_path):
    path = tmp_path / "server.yml"
    path.write_text(yaml.safe_dump(server_settings))
    return path


@pytest.fixture
def start(tmp_path):
    """Starts a command in the background; ends it with the test."""
    started = []

    def begin(*arguments: str) -> subprocess.Popen:
        log = (tmp_path / f"log-{len(started)}").open("wb")
        command = [sys.executable, "-m", "lefleet_server", *map(str, arguments)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(30)


@pytest.fixture
def own_cluster(open_folder):
    """(settings file, state folder) of an embedded PostgreSQL of this test's own."""
    config, state = open_folder / "server.yml", open_folder / "state"
    settings = {"state_dir": str(state), "postgres_dir": f"{state}/postgres", "log_format": "json"}
    config.write_text(yaml.safe_dump(settings | {"database_wait_s": 30}))
    yield config, state
    run("postgres", "--erase", "--config", config)


def test_wrong_settings_are_exit_2_and_one_line(tmp_path):
    bad = tmp_path / "bad.yml"
    bad.write_text("state_dir: s\nport: many\n")
    for command in (["serve"], ["migrate"], ["postgres"], ["enrol-code", "r"], ["login-link"], ["users", "add", "a"]):
        done = run(*command, "--config", bad)
        assert done.returncode == 2
        assert "port: 'many'" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_code_enrols_and_a_link_logs_in_over_the_real_server(config, server_settings, start, wait_until):
    added = json.loads(run("users", "add", "ann", "--role", "operator", "--config", config, "--json").stdout)
    again = json.loads(run("users", "add", "ann", "--role", "operator", "--config", config, "--json").stdout)
    assert (added["changed"], again["changed"]) == (True, False)
    code = json.loads(run("enrol-code", "robot-1", "--site", "lab", "--config", config, "--json").stdout)["code"]
    link = run("login-link", "--user", "ann", "--config", config).stdout.strip()
    server = start("serve", "--config", config)
    base = f"http://127.0.0.1:{server_settings['port']}"
    wait_until(lambda: answers(f"{base}/readyz"), 60)
    body = {"code": code, "robot_id": "robot-1", "agent_version": "0.1.0"}
    assert post(f"{base}/api/v1/robots/enrol", body) == 201
    assert link.startswith(f"{base}/login?code=")
    assert post(f"{base}/api/v1/login", {"code": link.partition("=")[2]}) == 204
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) in {0, -signal.SIGTERM}


def test_only_a_trusted_proxy_says_who_is_asking(server_settings, tmp_path, start, wait_until):
    """Behind a proxy `this machine` is whoever the proxy names, and nobody can name themselves."""
    config = tmp_path / "server.yml"
    config.write_text(yaml.safe_dump(server_settings | {"host": "0.0.0.0", "trusted_proxies": ["127.0.0.2"]}))  # noqa: S104
    start("serve", "--config", config)
    port, outside = server_settings["port"], own_address()
    wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), 60)

    def metrics(source: str, target: str, forwarded: str | None) -> int:
        headers = {"X-Forwarded-For": forwarded} if forwarded is not None else {}
        connection = http.client.HTTPConnection(target, port, source_address=(source, 0), timeout=20)
        connection.request("GET", "/metrics", headers=headers)
        return connection.getresponse().status

    proxy, stranger, local = "127.0.0.2", outside, "127.0.0.1"
    assert metrics(proxy, local, "203.0.113.7") == 403
    assert metrics(proxy, local, "127.0.0.1, 203.0.113.7") == 403
    assert metrics(proxy, local, "no address") == 403
    assert metrics(proxy, local, "127.0.0.1") == 200
    assert metrics(stranger, outside, None) == 403
    assert metrics(stranger, outside, "127.0.0.1") == 403
    assert metrics(local, local, "203.0.113.7") == 200


def own_address() -> str:
    """An address of this machine that is not loopback; nothing is sent to learn it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network address")
        return probe.getsockname()[0]


def test_the_settings_file_may_be_named_by_a_variable(config):
    done = run("robots", "--json", env=os.environ | {"LEFLEET_SERVER_CONFIG": str(config)})
    assert json.loads(done.stdout)["items"] == []


def post(url: str, body: dict) -> int:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - a fixed http address
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return answer.status


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url):  # noqa: S310
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["enrol-code", "Robot 1"], "ROBOT: 'Robot 1'"),
        (["enrol-code", "robot-1", "--site", "a b"], "--site: 'a b'"),
        (["users", "add", "-"], "USERNAME"),
        (["postgres"], "postgres_dir: is not set"),
    ],
)
def test_wrong_arguments_are_exit_2(config, arguments, said):
    done = run(*arguments, "--config", config)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_link_for_nobody_is_exit_1_with_the_remedy(config):
    done = run("login-link", "--user", "nobody", "--config", config)
    assert done.returncode == 1
    assert "lefleet-server users add nobody" in done.stderr


def test_a_robot_is_revoked_once_and_a_stranger_never(config, server_settings, start, wait_until):
    stranger = run("revoke", "robot-1", "--config", config)
    assert stranger.returncode == 1 and "no robot 'robot-1'" in stranger.stderr
    code = run("enrol-code", "robot-1", "--config", config).stdout.strip()
    start("serve", "--config", config)
    base = f"http://127.0.0.1:{server_settings['port']}"
    wait_until(lambda: answers(f"{base}/readyz"), 60)
    assert post(f"{base}/api/v1/robots/enrol", {"code": code, "robot_id": "robot-1", "agent_version": "0.1.0"}) == 201
    done = [json.loads(run("revoke", "robot-1", "--config", config, "--json").stdout) for _ in range(2)]
    assert [each["changed"] for each in done] == [True, False]


def test_a_password_comes_from_a_file_or_standard_input_only(config):
    command = ["users", "add", "bob", "--password-file", "-", "--config", config]
    assert run(*command, input="a long password\n").stdout == "bob is viewer\n"
    run("login-link", "--user", "bob", "--config", config)
    assert run(*command, input="a long password\n").stdout == "bob is viewer\n"
    changed = run(*command, input="another password\n").stdout
    assert "with the old password ended 0 log-ins, 1 log-in links and 0 tokens" in changed
    short = run(*command, input="short\n")
    assert short.returncode == 2
    assert "short\n" not in short.stderr


def test_the_embedded_database_starts_stops_and_starts_again(own_cluster, start):
    config, state = own_cluster
    not_started = run("serve", "--config", config, env=os.environ | {"LEFLEET_SERVER_DATABASE_WAIT_S": "0"})
    assert not_started.returncode == 1
    assert "run `lefleet-server postgres`" in not_started.stderr

    postgres = start("postgres", "--config", config)
    unmigrated = run("serve", "--config", config)
    assert unmigrated.returncode == 1
    assert "lefleet-server migrate" in unmigrated.stderr
    assert json.loads(run("migrate", "--config", config, "--json").stdout)["changed"] is True
    assert json.loads(run("migrate", "--config", config, "--json").stdout)["changed"] is False
    run("users", "add", "ann", "--config", config)

    where = cluster.read(state / "postgres")
    assert where.data_dir.stat().st_mode & 0o777 == 0o700
    assert where.socket_dir.stat().st_mode & 0o777 == 0o700
    assert cluster.password_file(state / "postgres").stat().st_mode & 0o777 == 0o600
    second = run("postgres", "--config", config)
    assert second.returncode == 1
    assert f"pid {postgres.pid}" in second.stderr

    postgres.send_signal(signal.SIGINT)
    assert postgres.wait(30) == 0
    restarted = start("postgres", "--config", config)
    assert run("login-link", "--user", "ann", "--config", config).returncode == 0
    restarted.kill()
    restarted.wait(10)
    # What a crash leaves, and after it a reboot that gave the old process id to somebody else.
    lock = where.data_dir / "postmaster.pid"
    lines = lock.read_text().splitlines()
    lock.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    start("postgres", "--config", config)
    assert run("login-link", "--user", "ann", "--config", config).returncode == 0


def test_a_database_in_a_closed_or_long_folder_still_runs(start):
    with tempfile.TemporaryDirectory(prefix="lefleet-test-") as folder:  # 0700: closed to the system user of PostgreSQL
        place = Path(folder) / ("long, " + "x" * 100) / "postgres"
        config = Path(folder) / "server.yml"
        config.write_text(yaml.safe_dump({"state_dir": folder, "postgres_dir": str(place), "database_wait_s": 30}))
        postgres = start("postgres", "--config", config)
        assert run("migrate", "--config", config).returncode == 0
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        where = cluster.read(place)
        postgres.send_signal(signal.SIGINT)
        postgres.wait(30)
        assert run("postgres", "--erase", "--config", config).returncode == 0
        assert not where.data_dir.exists()
        assert not where.socket_dir.exists()
