"""Roles server (as containers) and monitoring: what they promise, tried on a simulated host with real containers."""

import base64
import hashlib
import importlib.util
import json
import re
import ssl
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import httpx
import pytest

HERE = Path(__file__).resolve().parent
NAME = "h5-server"
SECRETS = "/etc/lefleet/server/secrets"
COMPOSE = "docker compose --file /opt/lefleet/server/compose.yml"
TUS = {"Tus-Resumable": "1.0.0"}
PROMETHEUS = "172.30.213.1:9090"
PORT_NAMES = {"": 443, "registry": 5443, "push": 5444}


def module(name: str, path: Path) -> Any:
    """A module from its file, once (importlib mode puts nothing on sys.path)."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    images = module("fleet_images_build", HERE / "images" / "build.py")
    words = {name: {"source": "archive", "archive": str(images.archive(name))} for name in
             ("server", "postgres", "caddy", "registry")}  # fmt: skip
    return {
        "server_runtime": "container",
        "server_other_names": ["{{ ansible_host }}"],
        "server_images": words,
        "server_settings": {
            "min_free_bytes": 0,
            "heartbeat_interval_s": 2,
            "prometheus_url": f"http://{PROMETHEUS}",
        },
        "server_registry_password": "a password of the vault: $1 'quoted'",
        "monitoring_prometheus": True,
        "monitoring_prometheus_image": {"source": "archive", "archive": str(images.archive("prometheus"))},
        "monitoring_prometheus_listen": PROMETHEUS,
        "monitoring_prometheus_interval_s": 5,
        "monitoring_rules": [{"name": "own", "rules": [{"alert": "Seen", "expr": 'up{job="robots"} == 1'}]}],
        "monitoring_nodes": [{"targets": ["127.0.0.1:9100"], "labels": {"host": NAME}}],
    }


@pytest.fixture(scope="module")
def bare(fleet: Any) -> Any:
    return fleet.host(NAME, kind="server")


@pytest.fixture(scope="module")
def checked_bare(bare: Any, play: Callable[..., Any], variables: dict[str, Any]) -> Any:
    """Check mode, before anything is there."""
    return play(["server", "monitoring"], [bare], variables, check=True, diff=True)


@pytest.fixture(scope="module")
def host(checked_bare: Any, bare: Any, play: Callable[..., Any], variables: dict[str, Any]) -> Any:
    """The host with the server on it."""
    bare.run("apt-get update && apt-get install --yes --no-install-recommends docker.io", timeout_s=600)
    done = play(["server"], [bare], variables)
    assert done.rc == 0
    return bare


@pytest.fixture
def client(host: Any) -> Any:
    """Calls the server as robots do: by its address, through Caddy, trusting its CA alone."""
    trust = ssl.create_default_context(cadata=host.read("/opt/lefleet/server/ca.crt"))
    with httpx.Client(base_url=f"https://{host.address}", verify=trust, timeout=30) as made:
        yield made


def robot(host: Any, client: httpx.Client, robot_id: str) -> dict[str, str]:
    """Enrols a robot; the header with its credential."""
    code = json.loads(host.run(f"lefleet-server enrol-code {robot_id} --json").stdout)["code"]
    body = {"code": code, "robot_id": robot_id, "agent_version": "0.1.0"}
    token = client.post("/api/v1/robots/enrol", json=body).raise_for_status().json()["token"]
    return {"Authorization": f"Bearer {token}"}


def episode(folder: Path, robot_id: str = "robot-1") -> Path:
    """An episode file of this robot, as the server's own tests make them."""
    made = module("server_conftest", HERE.parent / "server" / "conftest.py")
    episode_id = uuid.uuid4().hex
    path = folder / f"{episode_id}.h5"
    with h5py.File(path, "w") as file:
        made._fill(file, 12)
        said = {"episode_id": episode_id, "robot_id": robot_id, "note": episode_id}
        file.attrs.update(made._attributes(12) | said)
    return path


def upload(client: httpx.Client, path: Path, credential: dict[str, str]) -> str:
    """Brings an episode to the server; its SHA-256."""
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    words = {"sha256": sha256, "episode_id": path.stem}
    metadata = ",".join(f"{name} {base64.b64encode(word.encode()).decode()}" for name, word in words.items())
    headers = TUS | credential | {"Upload-Length": str(len(data)), "Upload-Metadata": metadata}
    url = client.post("/api/v1/robot/uploads", headers=headers).raise_for_status().headers["location"]
    headers = TUS | credential | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    client.patch(url, headers=headers, content=data).raise_for_status()
    return sha256


def logged_in(host: Any, client: httpx.Client) -> httpx.Client:
    link = host.run("lefleet-server login-link").stdout.strip()
    assert link.startswith(f"https://{NAME}/login?code=")
    client.post("/api/v1/login", json={"code": link.partition("=")[2]}).raise_for_status()
    return client


def stored(host: Any, client: httpx.Client) -> dict[str, str]:
    """The server's episodes: SHA-256 of what it shows for download, by id."""
    items = logged_in(host, client).get("/api/v1/episodes").raise_for_status().json()["items"]
    files = {item["id"]: client.get(f"/api/v1/episodes/{item['id']}/file") for item in items}
    return {name: hashlib.sha256(answer.raise_for_status().content).hexdigest() for name, answer in files.items()}


def containers(host: Any, form: str) -> dict[str, str]:
    """What `docker inspect` says of each service's container."""
    names = ("postgres", "registry", "api", "worker", "caddy")
    words = " ".join(f"lefleet-{name}-1" for name in names)
    lines = host.run(f"docker inspect --format '{form}' {words}").stdout.splitlines()
    return dict(zip(names, lines, strict=True))


def sql(host: Any, text: str) -> str:
    return host.run(f'{COMPOSE} exec -T postgres psql -U lefleet -At -c "{text}"').stdout.strip()


def wait_until(holds: Callable[[], bool], timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "not within the time allowed"
        time.sleep(1)


def test_check_mode_on_a_bare_host_lists_what_it_would_do(checked_bare: Any, bare: Any) -> None:
    assert checked_bare.rc == 0
    assert checked_bare.changed[NAME] > 8
    assert "+name: lefleet" in checked_bare.output
    assert "a password of the vault" not in checked_bare.output


def test_a_second_run_changes_nothing(host: Any, play: Callable[..., Any], variables: dict[str, Any]) -> None:
    done = play(["server"], [host], variables)
    assert (done.rc, done.changed[NAME]) == (0, 0)
    again = play(["server"], [host], variables, check=True, diff=True, environment={"ANSIBLE_STRATEGY": "linear"})
    assert (again.rc, again.changed[NAME]) == (0, 0)


def test_containers_have_no_more_rights_than_they_need(host: Any) -> None:
    privileged = containers(host, "{{.HostConfig.Privileged}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}")
    assert set(privileged.values()) == {"false true [ALL]"}
    assert [name for name, user in containers(host, "{{.Config.User}}").items() if user in ("", "0", "root")] == []
    assert "0" not in containers(host, "{{.HostConfig.Memory}}").values()
    assert set(containers(host, "{{.HostConfig.LogConfig.Config}}").values()) == {"map[max-file:3 max-size:10m]"}


def test_only_caddy_is_reached_from_outside(host: Any) -> None:
    published = containers(host, "{{json .HostConfig.PortBindings}}")
    outside = {name for name, ports in published.items() if "HostIp" in ports.replace('"HostIp":"127.0.0.1"', "")}
    assert outside == {"caddy"}


def test_no_secret_is_on_a_command_line_or_in_an_environment(host: Any) -> None:
    shown = host.run("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'", check=False).stdout
    shown += host.run("docker inspect $(docker ps -aq)").stdout + host.run("cat /opt/lefleet/server/.env").stdout
    for name in ("database_password", "metrics_token", "registry_password"):
        secret = host.read(f"{SECRETS}/{name}").strip()
        assert len(secret) > 20
        assert secret not in shown
    modes = host.run(f"stat -c '%a %U:%g %n' {SECRETS} {SECRETS}/*").stdout.split("\n")
    assert [line for line in modes if line and line.split()[0] not in ("750", "640", "600", "400")] == []


def test_http_leads_to_https_which_browsers_remember(host: Any, client: httpx.Client) -> None:
    answer = httpx.get(f"http://{host.address}/episodes?x=1")
    assert (answer.status_code, answer.headers["location"]) == (301, f"https://{host.address}/episodes?x=1")
    page = client.get("/login")
    assert page.status_code == 200 and "LeFleet" in page.text
    assert page.headers["strict-transport-security"] == "max-age=31536000"


def test_nobody_who_comes_through_caddy_is_this_machine(host: Any, client: httpx.Client) -> None:
    for headers in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}, {"X-Real-IP": "::1"}):
        assert client.get("/metrics", headers=headers).status_code == 403
        assert client.get("/api/v1/metrics/targets", headers=headers).status_code == 403
    from_the_host = (
        f"curl -s -o /dev/null -w '%{{http_code}}' --cacert /opt/lefleet/server/ca.crt https://{NAME}/metrics"
    )
    assert host.run(from_the_host).stdout == "403"
    token = {"Authorization": f"Bearer {host.read(f'{SECRETS}/metrics_token').strip()}"}
    assert client.get("/metrics", headers=token).status_code == 200


def test_failed_log_ins_are_counted_by_the_address_that_caddy_saw(host: Any, client: httpx.Client) -> None:
    for forwarded in ("203.0.113.7", "127.0.0.1"):
        body = {"username": f"nobody-{forwarded}", "password": "a wrong password"}
        assert client.post("/api/v1/login", json=body, headers={"X-Forwarded-For": forwarded}).status_code == 401
    asked = "SELECT DISTINCT address FROM login_failures WHERE username LIKE 'nobody-%'"
    assert sql(host, asked).split() == [host.run("ip route show default | cut -d' ' -f3").stdout.strip()]


def test_the_worker_analyses_an_episode_in_its_container(host: Any, client: httpx.Client, tmp_path: Path) -> None:
    credential = robot(host, client, "robot-analysed")
    sent = episode(tmp_path, "robot-analysed")
    upload(client, sent, credential)
    address = f"/api/v1/episodes/{sent.stem}/analysis"
    person = logged_in(host, client)
    wait_until(lambda: person.get(address).status_code == 200)
    assert person.get(address).json()["state"] == "analysed"


def test_images_are_read_by_everyone_and_written_with_the_password(host: Any, client: httpx.Client) -> None:
    for port in (5443, 5444):
        host.run(f"install -D -m 0644 /opt/lefleet/server/ca.crt /etc/docker/certs.d/{NAME}:{port}/ca.crt")
    host.run(f"mkdir -p /tmp/i && echo hello > /tmp/i/f && tar -C /tmp/i -c f | docker import - {NAME}:5444/t/small:1")
    refused = host.run(f"docker push {NAME}:5444/t/small:1", check=False)
    assert refused.returncode != 0
    host.run(f"docker login {NAME}:5444 -u lefleet --password-stdin < {SECRETS}/registry_password")
    pushed = host.run(f"docker push {NAME}:5444/t/small:1").stdout
    host.run(f"docker logout {NAME}:5444; docker image rm {NAME}:5444/t/small:1")
    digest = next(word for word in pushed.split() if word.startswith("sha256:"))
    assert digest in host.run(f"docker pull {NAME}:5443/t/small@{digest}").stdout
    assert client.post(f"https://{host.address}:5443/v2/t/small/blobs/uploads/").status_code == 401
    assert client.delete(f"https://{host.address}:5443/v2/t/small/manifests/{digest}").status_code == 401


def test_prometheus_reads_server_robots_and_nodes(
    host: Any, client: httpx.Client, play: Callable[..., Any], variables: dict[str, Any]
) -> None:
    credential = robot(host, client, "robot-seen")
    first = play(["monitoring"], [host], variables)
    assert first.rc == 0
    again = play(["monitoring"], [host], variables)
    assert (again.rc, again.changed[NAME]) == (0, 0)

    def up() -> dict[str, str]:
        beat = {"state": "running", "metrics": "# TYPE lefleet_estops counter\nlefleet_estops_total 0\n"}
        client.post("/api/v1/robot/heartbeat", headers=credential, json=beat).raise_for_status()
        answer = json.loads(host.run(f"curl -s 'http://{PROMETHEUS}/api/v1/query?query=up'").stdout)
        return {
            one["metric"].get("robot_id", one["metric"]["job"]): one["value"][1] for one in answer["data"]["result"]
        }

    # Beside robots of other tests, which are silent.
    wait_until(lambda: up().items() >= {"robot-seen": "1", "server": "1", "workers": "1", "nodes": "1"}.items())
    assert "127.0.0.1:9100" in host.run("ss -tlnH").stdout
    assert "0.0.0.0:9100" not in host.run("ss -tlnH").stdout

    def alerts() -> list[str]:
        up()
        shown = person.get("/api/v1/robots/robot-seen").raise_for_status().json()
        return [alert["name"] for alert in shown["alerts"] or []]

    person = logged_in(host, client)
    wait_until(lambda: alerts() == ["Seen"])


def test_a_changed_setting_replaces_the_server_and_its_worker_and_nothing_else(
    host: Any, play: Callable[..., Any], variables: dict[str, Any]
) -> None:
    before = containers(host, "{{.Id}}")
    settings = variables["server_settings"] | {"log_level": "debug"}
    done = play(["server"], [host], variables | {"server_settings": settings})
    after = containers(host, "{{.Id}}")
    assert done.rc == 0
    assert {name for name, identity in after.items() if identity != before[name]} == {"api", "worker"}
    assert play(["server"], [host], variables).rc == 0


def test_a_new_password_of_the_vault_reaches_the_database(
    host: Any, client: httpx.Client, play: Callable[..., Any], variables: dict[str, Any]
) -> None:
    new = variables | {"server_database_password": "it's a \\ new: one"}
    assert play(["server"], [host], new).rc == 0
    assert host.read(f"{SECRETS}/database_password").strip() == "it's a \\ new: one"
    assert client.get("/readyz").status_code == 200
    done = play(["server"], [host], new)
    assert (done.rc, done.changed[NAME]) == (0, 0)


def test_a_failed_migration_leaves_the_old_server_running_and_says_why(
    host: Any, client: httpx.Client, play: Callable[..., Any], variables: dict[str, Any]
) -> None:
    before = containers(host, "{{.Id}}")
    # The database stands at a revision that the image does not know, as after a step back to an older image.
    revision = sql(host, "SELECT version_num FROM alembic_version")
    sql(host, "UPDATE alembic_version SET version_num = 'from-the-future'")
    settings = variables["server_settings"] | {"log_level": "debug"}
    failed = play(["server"], [host], variables | {"server_settings": settings})
    assert failed.failed[NAME] == 1
    assert "from-the-future" in failed.output
    assert containers(host, "{{.Id}}") == before
    assert client.get("/healthz").status_code == 200
    sql(host, f"UPDATE alembic_version SET version_num = '{revision}'")  # noqa: S608 - its own words
    assert play(["server"], [host], variables).rc == 0


def test_a_backup_is_restored_with_every_episode(
    host: Any, client: httpx.Client, playbook: Callable[..., Any], tmp_path: Path
) -> None:
    simulated = sys.modules["fleet"]
    inventory = {"servers": {"hosts": simulated.inventory([host])["all"]["hosts"]}}
    inventory["servers"]["vars"] = simulated.inventory([host])["all"]["vars"]
    credential = robot(host, client, "robot-1")
    host.run("systemctl start lefleet-backup.service", timeout_s=600)  # what other tests left is no news any more
    new = [upload(client, episode(tmp_path), credential) for _ in range(3)]
    kept = sorted(stored(host, client).values())
    assert set(new) <= set(kept)
    host.run("systemctl start lefleet-backup.service", timeout_s=600)
    made = json.loads(host.run("lefleet-backup list").stdout)[-1]
    assert (made["episodes"], made["new_blobs"]) == (len(kept), len(new))
    assert "lefleet_backup_last_success_timestamp_seconds 1" in host.read(
        "/var/lib/prometheus/node-exporter/lefleet_backup.prom"
    )
    late = upload(client, episode(tmp_path), credential)
    assert set(stored(host, client).values()) == {*kept, late}

    # All is lost: the database, the episodes' files, and the CA that the robots trust.
    host.run(f"{COMPOSE} down && rm -rf /var/lib/lefleet/server/postgres/* /var/lib/lefleet/server/api/blobs")
    host.run("rm -rf /var/lib/lefleet/server/caddy/*")
    host.run(f"{COMPOSE} up -d", timeout_s=600)

    refused = playbook("restore.yml", inventory)
    assert refused.rc != 0
    assert f"-e restore_confirm={NAME}" in " ".join(refused.output.split())
    looked = playbook("restore.yml", inventory, "--check")
    assert looked.rc == 0
    done = playbook("restore.yml", inventory, "-e", f"restore_confirm={NAME}")
    assert done.rc == 0
    assert sorted(stored(host, client).values()) == kept
    # The robot's credential and its trust in the server's certificate came back too.
    assert client.post("/api/v1/robot/heartbeat", headers=credential, json={"state": "idle"}).status_code == 200
    assert upload(client, episode(tmp_path), credential) in stored(host, client).values()


def test_a_damaged_backup_is_not_restored(host: Any) -> None:
    blob = host.run("find /var/lib/lefleet/server/backups/blobs -type f | head -1").stdout.strip()
    host.run(f"cp {blob} /tmp/blob && printf x | dd of={blob} bs=1 seek=100 conv=notrunc")
    before = containers(host, "{{.State.StartedAt}}")
    refused = host.run("lefleet-backup restore", check=False)
    host.run(f"cp /tmp/blob {blob}")
    assert refused.returncode == 1
    assert re.search(r"1 of \d+ episodes are missing or damaged", refused.stderr)
    assert containers(host, "{{.State.StartedAt}}") == before
    host.run("lefleet-backup verify")


def test_another_postgresql_is_used_by_its_url_and_left_again(
    host: Any, client: httpx.Client, play: Callable[..., Any], variables: dict[str, Any]
) -> None:
    kept = stored(host, client)
    words = "--env POSTGRES_USER=lefleet --env POSTGRES_PASSWORD=its-own --env PGDATA=/var/lib/postgresql/pgdata"
    image = "$(docker inspect --format '{{.Config.Image}}' lefleet-postgres-1)"
    host.run(f"docker run --detach --name elsewhere --publish 5433:5432 {words} {image} postgres")
    url = f"postgresql://lefleet@{host.address}:5433/lefleet"
    other = variables | {"server_database_url": url, "server_database_password": "its-own"}
    wait_until(lambda: host.run("docker exec elsewhere pg_isready -h 127.0.0.1", check=False).returncode == 0)
    assert play(["server"], [host], other).rc == 0
    again = play(["server"], [host], other)
    assert (again.rc, again.changed[NAME]) == (0, 0)
    assert stored(host, client) == {}
    assert host.run("docker ps --all --quiet --filter name=lefleet-postgres-1").stdout == ""
    host.run("systemctl start lefleet-backup.service", timeout_s=600)
    assert json.loads(host.run("lefleet-backup list").stdout)[-1]["episodes"] == 0
    assert play(["server"], [host], variables).rc == 0
    assert stored(host, client) == kept
    host.run("docker rm --force --volumes elsewhere")


def test_the_server_returns_by_itself_after_a_reboot(host: Any, client: httpx.Client) -> None:
    host.reboot()
    host.run("systemctl is-active docker || systemctl start docker", check=False)

    def ready() -> bool:
        try:
            return client.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    wait_until(ready, 180)
    wait_until(lambda: set(containers(host, "{{.State.Health.Status}}").values()) == {"healthy"})
    assert host.run("systemctl is-active lefleet-backup.timer").stdout.strip() == "active"


@pytest.mark.parametrize(
    ("breaks", "mends", "said"),
    [
        ("docker stop lefleet-registry-1", "docker start lefleet-registry-1", "lefleet-registry-1: not running"),
        (
            "docker update --restart no lefleet-api-1",
            "docker update --restart unless-stopped lefleet-api-1",
            "lefleet-api-1: not running",
        ),
        ("docker stop lefleet-worker-1", "docker start lefleet-worker-1", "lefleet-worker-1: not running"),
        ("systemctl stop lefleet-backup.timer", "systemctl start lefleet-backup.timer", "lefleet-backup.timer"),
        (
            "mv /opt/lefleet/server/ca.crt /root",
            "mv /root/ca.crt /opt/lefleet/server/",
            "ready: https://h5-server:443/readyz answered 000 instead of 200",
        ),
    ],
)
def test_verify_fails_when_something_is_broken(
    host: Any, play: Callable[..., Any], variables: dict[str, Any], breaks: str, mends: str, said: str
) -> None:
    host.run(breaks)
    broken = play(["server"], [host], variables, tags=["server_verify"])
    host.run(mends)
    assert broken.failed[NAME] == 1
    assert said in " ".join(broken.output.split())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"server_tls": "acme"}, "server_tls=acme needs server_acme_email"),
        ({"server_hostname": "my server"}, "server_hostname=my server is no host name"),
        ({"server_https_port": 80}, "must differ; they are 80, 80, 5443, 5444"),
        ({"server_network": "172.29.77"}, "server_network=172.29.77 is used by this host"),
        ({"server_workers": 0}, "server_workers=0 must be 1 or more"),
        ({"server_store_url": "file:///mnt/big"}, "server_store_url must look like s3://bucket/prefix"),
        ({"server_database_url": "postgresql://u:secret@db/lefleet"}, "without a password"),
        ({"server_database_url": "postgresql://u@db/lefleet"}, "server_database_password is empty"),
        ({"server_settings": {"public_url": "https://x"}}, "server_settings holds public_url"),
        ({"server_images": {"server": {"ref": "x:1"}}}, "server_images lacks postgres, caddy, registry"),
    ],
)
def test_wrong_variables_are_refused_before_anything_changes(
    bare: Any, play: Callable[..., Any], variables: dict[str, Any], wrong: dict[str, Any], said: str
) -> None:
    done = play(["server"], [bare], variables | wrong, tasks_from="preflight")
    assert done.failed[NAME] == 1
    assert done.changed[NAME] == 0
    assert said in " ".join(done.output.split())
