"""The proxies before the server: each the real program with the configuration that we ship, on ports of a test's."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DOCKER = Path(__file__).parents[1] / "docker"
OFFER = "X-Sendfile-Type"
SHIPPED = {"caddy": "Caddyfile", "nginx": "lefleet.conf"}
NOBODY = "$2a$14$" + "a" * 53
"""Has the form of bcrypt, and no password."""
NGINX = """
daemon off;
{user}
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections 64; }}
http {{
  access_log off;
  sendfile on;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/t1; fastcgi_temp_path {folder}/t2; uwsgi_temp_path {folder}/t3; scgi_temp_path {folder}/t4;
  server {{
    listen 127.0.0.1:{port};
    include {folder}/lefleet.conf;
  }}
}}
"""


def find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextmanager
def running(name: str, folder: Path, api_port: int, blobs: Path, *, sends: bool = True) -> Iterator[tuple[str, int]]:
    """`caddy` or `nginx` before the server at `api_port`, until the block ends: its address and process.

    `sends`: whether it tells the server that it can send files.
    """
    port = free_port()
    folder.mkdir()
    arguments, environment = CONFIGURE[name](folder, port, api_port, blobs)
    if not sends:
        adapted(folder / SHIPPED[name], folder / SHIPPED[name], {OFFER: "X-Sends-No-Files"})
    with _started(name, folder, port, arguments, environment) as pid:
        yield f"http://127.0.0.1:{port}", pid


@contextmanager
def balancing(folder: Path, port: int, api_ports: list[int]) -> Iterator[str]:
    """docker/balancer before the two servers at `api_ports`, without TLS, until the block ends: its address."""
    folder.mkdir()
    first, second = api_ports
    hosts = {"10.0.0.11:8000": f"127.0.0.1:{first}", "10.0.0.12:8000": f"127.0.0.1:{second}"}
    url = f"http://127.0.0.1:{port}"
    changes = hosts | {"fleet.example.org": url, "admin 127.0.0.1:2019": "admin off"}
    adapted(DOCKER / "balancer" / "Caddyfile", folder / "Caddyfile", changes)
    with _started("caddy", folder, port, *_run_caddy(folder)):
        yield url


@contextmanager
def _started(name: str, folder: Path, port: int, arguments: list[str], environment: dict[str, str]) -> Iterator[int]:
    """The proxy's process, once it listens."""
    program = find(name)
    assert program, f"{name} is missing; install it with `python3 ansible/demo/packages.py test`"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], env=os.environ | environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not _listens(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, f"{name} does not listen"
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def caddy(folder: Path, port: int, api_port: int, blobs: Path) -> tuple[list[str], dict[str, str]]:
    """docker/caddy as compose.server.yml runs it, without TLS."""
    (folder / "writers").write_text(f"lefleet {NOBODY}\n")
    shutil.copy(DOCKER / "caddy" / "off.caddy", folder)
    adapted(
        DOCKER / "caddy" / "Caddyfile",
        folder / "Caddyfile",
        {
            "admin 127.0.0.1:2019": "admin off",
            "api:8000": f"127.0.0.1:{api_port}",
            "/srv/blobs": str(blobs),
            "/run/secrets/registry_writers": str(folder / "writers"),
        },
    )
    sites = {name: f"http://127.0.0.1:{free_port()}" for name in ("REGISTRY_SITES", "PUSH_SITES")}
    environment = {"TLS": "off", "SITES": f"http://127.0.0.1:{port}", "HTTP_PORT": str(free_port())} | sites
    arguments, homes = _run_caddy(folder)
    return arguments, environment | homes


def _run_caddy(folder: Path) -> tuple[list[str], dict[str, str]]:
    homes = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    return ["run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"], homes


def nginx(folder: Path, port: int, api_port: int, blobs: Path) -> tuple[list[str], dict[str, str]]:
    adapted(
        DOCKER / "nginx" / "lefleet.conf",
        folder / "lefleet.conf",
        {"127.0.0.1:8000": f"127.0.0.1:{api_port}", "/var/lib/lefleet/blobs": str(blobs)},
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, user=user))
    return ["-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")], {}


CONFIGURE: dict[str, Callable[[Path, int, int, Path], tuple[list[str], dict[str, str]]]] = {
    "caddy": caddy,
    "nginx": nginx,
}


def adapted(source: Path, target: Path, words: dict[str, str]) -> None:
    text = source.read_text()
    for word, instead in words.items():
        assert word in text, f"{source} has no {word!r}"
        text = text.replace(word, instead)
    target.write_text(text)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
