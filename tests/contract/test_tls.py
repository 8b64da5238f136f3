"""The agent against a real TLS server whose certificate comes from an authority of our own."""

import subprocess
import threading

import pytest
import uvicorn
import yaml

from lefleet_agent.config import ConfigError, load
from lefleet_agent.wiring import build_api
from lefleet_server.app import create_app
from lefleet_server.config import Settings


@pytest.fixture
def authority(make_authority, tmp_path):
    return make_authority(tmp_path / "authority")


@pytest.fixture
def server(authority, server_settings, wait_until):
    certificate, key = authority.issue("localhost", "127.0.0.1")
    port = server_settings["port"]
    app = create_app(Settings(**server_settings), dashboard=False)
    config = uvicorn.Config(app, port=port, log_config=None, ssl_certfile=certificate, ssl_keyfile=key)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    yield f"https://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def agent(tmp_path, server, agent_command, server_cli):
    """Enrols with these further settings; returns what the command said."""

    def enrol(**settings: object) -> subprocess.CompletedProcess[str]:
        values = {"robot_id": "robot-1", "server_url": server, "state_dir": str(tmp_path / "robot-1")} | settings
        (tmp_path / "agent.yml").write_text(yaml.safe_dump(values))
        command = agent_command("enrol", "--config", tmp_path / "agent.yml")
        code = server_cli("enrol-code", "robot-1")
        return subprocess.run(command, input=code, capture_output=True, text=True, timeout=60, check=False)

    return enrol


def test_a_robot_enrols_with_a_server_whose_authority_it_was_given(agent, authority, server):
    done = agent(server_ca_file=str(authority.pem))
    assert done.returncode == 0, done.stderr
    assert f"robot-1 is enrolled at {server}" in " ".join(done.stdout.split())
    assert "without TLS" not in done.stderr


def test_a_server_of_an_unknown_authority_is_not_spoken_to(agent, make_authority, tmp_path):
    for settings in ({}, {"server_ca_file": str(make_authority(tmp_path / "another").pem)}):
        done = agent(**settings)
        assert done.returncode == 1
        assert "CERTIFICATE_VERIFY_FAILED" in done.stderr and "check server_ca_file" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "robot-1" / "credential.json").exists()


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no such file"), ("", "no certificates"), ("-----BEGIN", "no certificates")]
)
def test_an_authority_file_that_cannot_be_used_is_named(tmp_path, content, said):
    pem = tmp_path / "ca.crt"
    if content is not None:
        pem.write_text(content)
    path = tmp_path / "agent.yml"
    values = {"robot_id": "r", "server_url": "https://127.0.0.1:9", "state_dir": str(tmp_path)}
    path.write_text(yaml.safe_dump(values | {"server_ca_file": str(pem)}))
    with pytest.raises(ConfigError, match=f"server_ca_file: {pem}: {said}"):
        build_api(load(path))


@pytest.mark.parametrize(
    ("url", "warned"),
    [("http://10.0.0.1", True), ("http://server.local:8000", True), ("http://127.0.0.1:1", False),
     ("http://localhost", False), ("http://[::1]:8000", False), ("https://10.0.0.1", False)],
)  # fmt: skip
def test_speaking_without_tls_to_another_machine_is_said(tmp_path, capsys, url, warned):
    path = tmp_path / "agent.yml"
    path.write_text(yaml.safe_dump({"robot_id": "r", "server_url": url, "state_dir": str(tmp_path)}))
    build_api(load(path)).close()
    captured = capsys.readouterr()
    assert ("without TLS" in captured.out + captured.err) == warned
