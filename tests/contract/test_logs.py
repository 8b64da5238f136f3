"""No secret is in a log: the real programs, at debug level, with every kind of secret through them."""

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml
from websockets.sync.client import connect

from lefleet_agent import credential

PROGRAMS = {"server": "lefleet_server", "lefleet": "lefleet_server.cli", "agent": "lefleet_agent"}


class Logs:
    """Runs programs with what they print to standard error in files of their own, and remembers each secret."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = contextlib.ExitStack()
        self.secrets: dict[str, str] = {}

    def keep(self, what: str, secret: str) -> str:
        assert len(secret) > 10, f"{what}: {secret!r} is too short to be looked for"
        self.secrets[what] = secret
        return secret

    def file(self, what: str, secret: str) -> Path:
        path = self._folder / f"{what}.secret"
        path.write_text(self.keep(what, secret) + "\n")
        return path

    def start(self, program: str, *words: object) -> subprocess.Popen:
        log = self._running.enter_context((self._folder / f"{program}-{words[0]}.log").open("ab"))
        process = subprocess.Popen([sys.executable, "-m", PROGRAMS[program], *map(str, words)], stdout=log, stderr=log)
        self._running.callback(process.wait, 30)
        self._running.callback(process.terminate)
        return process

    def run(self, program: str, *words: object, given: str = "") -> str:
        """Its standard output is its answer, and may hold a secret; what it logs must not."""
        command = [sys.executable, "-m", PROGRAMS[program], *map(str, words)]
        environment = os.environ | {"HOME": str(self._folder), "XDG_CONFIG_HOME": str(self._folder / "config")}
        with (self._folder / f"{program}-{words[0]}.log").open("ab") as log:
            done = subprocess.run(
                command, input=given, stdout=-1, stderr=log, text=True, env=environment, timeout=120, check=False
            )
        assert done.returncode == 0, (self._folder / f"{program}-{words[0]}.log").read_text()
        return done.stdout

    def end(self) -> None:
        self._running.close()

    def text(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self._folder.glob("*.log")}


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    made = Logs(tmp_path)
    yield made
    made.end()


@pytest.fixture(params=["console", "json"])
def config(request, logs: Logs, server_settings: dict, tmp_path: Path, oidc_provider) -> Path:
    token = logs.file("metrics-token", secrets.token_urlsafe(24))
    logs.keep("database-password", server_settings["database_url"].partition("://")[2].partition("@")[0].split(":")[1])
    wanted = {"log_level": "debug", "log_format": request.param, "metrics_token_file": str(token)}
    wanted |= {"oidc_issuer": oidc_provider.url, "oidc_client_id": "lefleet", "oidc_create_accounts": True}
    wanted |= {"oidc_client_secret_file": str(logs.file("oidc-secret", secrets.token_urlsafe(24)))}
    path = tmp_path / "server.yml"
    path.write_text(yaml.safe_dump(server_settings | wanted))
    return path


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


def test_no_secret_that_passes_through_the_programs_is_in_any_log(
    logs: Logs, config: Path, server_settings: dict, robot_side: Callable, wait_until: Callable, oidc_provider
):
    url = f"http://127.0.0.1:{server_settings['port']}"
    password = logs.file("password", secrets.token_urlsafe(24))
    logs.run("server", "users", "add", "ada", "--role", "admin", "--password-file", password, "--config", config)
    logs.start("server", "serve", "--config", config)
    logs.start("server", "worker", "--config", config)
    wait_until(lambda: answers(url), 120)

    people(logs, config, url, password)
    by_provider(logs, url, oidc_provider)
    robot(logs, config, url, robot_side, wait_until)
    logs.end()
    found = logs.text()
    assert {"server-serve.log", "server-worker.log", "agent-courier.log", "lefleet-login.log"} <= set(found)
    assert "/api/v1/login" in found["server-serve.log"], "it logs each request at this level"
    assert "credential renewed" in found["agent-courier.log"]
    leaks = [(what, name) for what, secret in logs.secrets.items() for name, text in found.items() if secret in text]
    assert leaks == []


def people(logs: Logs, config: Path, url: str, password: Path) -> None:
    with httpx.Client(base_url=url) as client:
        wrong = {"username": "ada", "password": logs.keep("wrong password", secrets.token_urlsafe(24))}
        assert client.post("/api/v1/login", json=wrong).status_code == 401
        misspelt = {"username": "ada", "pasword": logs.keep("misspelt password", secrets.token_urlsafe(24))}
        assert client.post("/api/v1/login", json=misspelt).status_code == 422
        secret = logs.secrets["password"]
        client.post("/api/v1/login", json={"username": "ada", "password": secret}).raise_for_status()
        cookie = logs.keep("session cookie", client.cookies["lefleet_session"])
        client.get("/").raise_for_status()
        socket = f"{url.replace('http', 'ws')}/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
        with connect(socket, additional_headers={"Cookie": f"lefleet_session={cookie}"}) as live:
            assert live.recv(5), "the live connection of a page is open"
        made = client.post("/api/v1/tokens", json={"name": "t", "scopes": ["read"]}).raise_for_status().json()
        token = logs.keep("api token", made["token"])
        assert client.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"}).is_success
        newer = {"old": secret, "new": logs.keep("new password", secrets.token_urlsafe(24))}
        client.put("/api/v1/me/password", json=newer).raise_for_status()
        client.get("/metrics", headers={"Authorization": f"Bearer {logs.secrets['metrics-token']}"}).raise_for_status()
        client.post("/api/v1/logout").raise_for_status()
    link = logs.run("server", "login-link", "--user", "ada", "--config", config).strip()
    code = logs.keep("log-in code", link.split("code=")[1])
    httpx.get(link).raise_for_status()  # as a chat program does
    httpx.post(f"{url}/api/v1/login", json={"code": code}).raise_for_status()
    password.write_text(logs.secrets["new password"] + "\n")
    logs.run("lefleet", "login", url, "--user", "ada", "--password-file", password, "--profile", "lab")
    profiles = yaml.safe_load((password.parent / "config" / "lefleet" / "profiles.yml").read_text())
    logs.keep("the command line's token", profiles["profiles"]["lab"]["token"])
    logs.run("lefleet", "robots", "list")


def by_provider(logs: Logs, url: str, oidc_provider) -> None:
    oidc_provider.know("sub-oda", preferred_username="oda")
    with httpx.Client(base_url=url) as client:
        to = client.get("/api/v1/login/oidc").headers["location"]
        asked = parse_qs(urlsplit(to).query)
        logs.keep("oidc cookie", client.cookies["lefleet_oidc"].partition(".")[0])
        back = httpx.post(to, data={"sub": "sub-oda"}).headers["location"]
        logs.keep("oidc code", parse_qs(urlsplit(back).query)["code"][0])
        logs.keep("oidc state", asked["state"][0])
        assert client.get(back).headers["location"] == "/"
        logs.keep("session cookie by oidc", client.cookies["lefleet_session"])
        assert client.get("/api/v1/me").json()["username"] == "oda"


def robot(logs: Logs, config: Path, url: str, robot_side: Callable, wait_until: Callable) -> None:
    side = robot_side(url, renew_credential_s=1)
    code = logs.keep("enrolment code", logs.run("server", "enrol-code", "robot-1", "--config", config).strip())
    logs.run("agent", "enrol", "--config", side.config, given=code)
    side.record()
    logs.start("agent", "courier", "--config", side.config)

    def kept() -> str:
        return credential.read(side.settings.state_dir, "robot-1").token

    for number in range(3):
        before = logs.keep(f"credential {number}", kept())
        wait_until(lambda before=before: kept() != before)
    wait_until(lambda: side.spool.next_waiting() is None)
    logs.run("agent", "status", "--config", side.config)


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_an_unexpected_error_is_logged_without_the_variables_of_its_frames(log_format):
    code = (
        "import structlog; from pathlib import Path\n"
        "from lefleet_server.config import Settings; from lefleet_server.logs import configure\n"
        f"configure(Settings(state_dir=Path('s'), log_format='{log_format}'))\n"
        "def fails():\n"
        "    password = 'hunter' + '2' * 9\n"
        "    return {}['a name']\n"
        "try:\n    fails()\n"
        "except KeyError as error:\n    structlog.get_logger().error('request failed', exc_info=error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "KeyError" in done.stderr and "in fails" in done.stderr
    assert "hunter" + "2" * 9 not in done.stderr
