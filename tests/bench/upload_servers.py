"""The two servers that uploads are measured against, each the real program in processes of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from processes import BenchError, wait_until

NGINX = """
daemon off;
{user}
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_max_body_size 1g;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/t1; fastcgi_temp_path {folder}/t2; uwsgi_temp_path {folder}/t3; scgi_temp_path {folder}/t4;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/files;
    location / {{ dav_methods PUT; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class UploadServer:
    port: int
    web_pid: int
    """Heads the tree of processes that answer HTTP."""
    database_pid: int | None
    tokens: tuple[str, ...]
    """A credential for each client; empty strings where none is asked for."""


def find_nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextmanager
def nginx(program: str, folder: Path, clients: int) -> Iterator[UploadServer]:
    """Plain PUT to disk: nothing is checked, hashed, indexed or synced."""
    (folder / "files").mkdir(parents=True)
    port, config = free_port(), folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(folder=folder, port=port, user=user))
    with running([program, "-c", str(config), "-e", str(folder / "error.log")], folder / "log", signal.SIGQUIT) as pid:
        wait_until(lambda: answers(port, "/"), "nginx", 20)
        yield UploadServer(port, pid, None, ("",) * clients)


@contextmanager
def lefleet(
    folder: Path, clients: int, fill: Callable[[], object] = lambda: None, **more: str
) -> Iterator[UploadServer]:
    """`lefleet-server` with its embedded PostgreSQL, as `make demo` runs it, and an enrolled robot for each client.

    `fill` is called when there is a database and no server yet. `more`: settings.
    """
    folder.mkdir()
    port, config = free_port(), folder / "server.yml"
    settings = {"state_dir": str(folder / "state"), "postgres_dir": str(folder / "postgres"), "port": port} | more
    config.write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    with ExitStack() as stack:
        stack.callback(command, config, "postgres", "--erase")
        database = running(server("postgres", config), folder / "postgres.log", signal.SIGINT)
        database_pid = stack.enter_context(database)
        command(config, "migrate")
        fill()
        web_pid = stack.enter_context(running(server("serve", config), folder / "server.log", signal.SIGTERM))
        wait_until(lambda: answers(port, "/readyz"), "lefleet-server (see its server.log)", 60)
        tokens = tuple(enrol(port, config, robot_of(n)) for n in range(clients))
        yield UploadServer(port, web_pid, database_pid, tokens)


def robot_of(client: int) -> str:
    return f"bench-{client}"


def enrol(port: int, config: Path, robot_id: str) -> str:
    code = json.loads(command(config, "enrol-code", robot_id, "--json"))["code"]
    body = {"code": code, "robot_id": robot_id, "agent_version": "0.1.0", "hw": "bench"}
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/api/v1/robots/enrol", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    if answer.status != 201:
        raise BenchError(f"enrolment of {robot_id}: {answer.status} {text}")
    return str(json.loads(text)["token"])


def server(name: str, config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "lefleet_server", name, *more, "--config", str(config)]


def command(config: Path, name: str, *more: str) -> str:
    done = subprocess.run(server(name, config, *more), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"lefleet-server {name}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def running(arguments: list[str], log: Path, stop: signal.Signals) -> Iterator[int]:
    """A program until the block ends; its process id."""
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=output)
    try:
        yield process.pid
    finally:
        process.send_signal(stop)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
