"""A fleet of simulated Jetsons on this machine: systemd hosts with SSH in containers, drives that are sparse files.

Needs root and Debian's docker.io and debootstrap. Everything lies on this machine's own network `lefleet-fleet`.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
import yaml
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("LEFLEET_FLEET_CACHE") or Path.home() / ".cache" / "lefleet-fleet")
SUITE = "bookworm"
NETWORK = "lefleet-fleet"
SUBNET = "172.29.77.0/24"
FIRST_ADDRESS, LAST_ADDRESS = 10, 250
DOMAIN = "fleet.test"
LABEL = "lefleet.fleet"
# All but CAP_SYS_RESOURCE, which a sandbox may not have to give; names the oldest engine in use knows.
CAPABILITIES = [
    "AUDIT_CONTROL",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "DAC_READ_SEARCH",
    "IPC_LOCK",
    "IPC_OWNER",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
]
Kind = Literal["jetson", "server", "light"]
# Swap is the kernel's, not the container's: it stays on when the container dies.
SWAP_OFF = ("/usr/local/sbin/simulated-swap", "stop")
SSH_OPTIONS = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]


class FleetError(Exception):
    """The fleet cannot be had; the message says what is missing and what helps."""


def run(*words: str | Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command of this machine. Raises FleetError with its words when it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, **options)
    if check and done.returncode != 0:
        raise FleetError(f"{' '.join(str(word) for word in words[:6])}: {(done.stderr or done.stdout).strip()[-3000:]}")
    return done


# --- the engine and its images -------------------------------------------------------------------------------------


def ensure_engine() -> subprocess.Popen[bytes] | None:
    """This machine's Docker engine, started when none runs: then its process, which goes on until somebody ends it."""
    if run("docker", "info", check=False).returncode == 0:
        return None
    missing = [name for name in ("dockerd", "debootstrap", "losetup") if not _which(name)]
    if missing or os.geteuid() != 0:
        raise FleetError(
            f"no Docker engine answers, and one cannot be started here: {', '.join(missing) or 'not root'}; "
            "run as root after `apt-get install docker.io debootstrap`"
        )
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "dockerd.log").open("ab") as log:
        engine = subprocess.Popen(["dockerd"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    for _ in range(60):
        time.sleep(0.5)
        if run("docker", "info", check=False).returncode == 0:
            return engine
    raise FleetError(f"dockerd did not start within 30 s; {CACHE / 'dockerd.log'} says why")


def mirror() -> str:
    """Where this machine gets its Debian packages, which the hosts' come from too."""
    sources = [*Path("/etc/apt").glob("sources.list.d/*.sources"), *Path("/etc/apt").glob("sources.list*")]
    for path in (path for path in sources if path.is_file()):
        for line in path.read_text().splitlines():
            words = line.split()
            found = next((word for word in words if word.startswith(("http://", "https://"))), None)
            if found and words[0] in ("URIs:", "deb") and "security" not in found:
                return found
    raise FleetError("/etc/apt names no Debian mirror; the hosts are built from its packages")


def content_hash(*paths: Path, text: str = "") -> str:
    """A hash of files' names, modes and bytes."""
    digest = hashlib.sha256(text.encode())
    for root in paths:
        for path in sorted(path for path in ([root] if root.is_file() else root.rglob("*")) if path.is_file()):
            digest.update(f"{path.relative_to(root.parent)} {path.stat().st_mode & 0o111}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def image_exists(name: str) -> bool:
    return run("docker", "image", "inspect", name, check=False).returncode == 0


def bootstrap(suite: str, packages: Iterable[str] = ()) -> str:
    """An image of Debian's smallest system, made once. Returns its name."""
    name = f"lefleet-test/{suite}:{content_hash(text=f'{suite} {sorted(packages)}')}"
    if not image_exists(name):
        with tempfile.TemporaryDirectory(prefix="lefleet-", dir=_roomy()) as folder:
            words = [f"--include={','.join(packages)}"] if packages else []
            run("debootstrap", "--variant=minbase", *words, suite, folder, mirror())
            with subprocess.Popen(["tar", "--create", "--directory", folder, "."], stdout=subprocess.PIPE) as tar:
                run("docker", "import", "-", name, stdin=tar.stdout)
    return name


def host_image(kind: Kind) -> str:
    """The image of one kind of host, built once and cached by content. Returns its name."""
    target = "jetson" if kind == "jetson" else "server"
    name = f"lefleet-test/host-{target}:{content_hash(HERE / 'host')}"
    if not image_exists(name):
        base = bootstrap(SUITE)
        run(
            "docker", "build", "--network", "host", "--target", target, "--tag", name,
            "--build-arg", f"BASE={base}", "--build-arg", f"MIRROR={mirror()}", HERE / "host",
            env={**os.environ, "DOCKER_BUILDKIT": "0"},
        )  # fmt: skip
    return name


def _which(name: str) -> bool:
    return any((Path(folder) / name).exists() for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/usr/local/bin"))


def _roomy() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    return CACHE


def ssh_key() -> Path:
    """The operator's key of this machine's fleets."""
    key = CACHE / "id_ed25519"
    if not key.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", key)
    return key


# --- hosts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Host:
    """One simulated host."""

    name: str
    kind: Kind
    address: str

    def run(self, words: str, check: bool = True, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """A shell command as root on the host, past SSH."""
        return run("docker", "exec", "-i", self.container, "bash", "-c", words, check=check, timeout=timeout_s)

    @property
    def container(self) -> str:
        return f"lefleet-{self.name}"

    @property
    def domain(self) -> str:
        """Its name for the other hosts."""
        return f"{self.name}.{DOMAIN}"

    def read(self, path: str) -> str:
        return self.run(f"cat '{path}'").stdout

    def exists(self, path: str) -> bool:
        return self.run(f"test -e '{path}'", check=False).returncode == 0

    def write(self, path: str, text: str) -> None:
        run("docker", "exec", "-i", self.container, "bash", "-c", f"cat > '{path}'", input=text)

    def reboot(self) -> None:
        """Like `reboot` on a real one: everything but the disks is new. Returns when it is up again."""
        before = self.started()
        self.run("systemctl reboot", check=False)
        self._wait(lambda: self.started() != before, "did not go down")
        self.wait()

    def started(self) -> str:
        return run("docker", "inspect", "-f", "{{.State.StartedAt}}", self.container).stdout.strip()

    def power_cut(self) -> None:
        """Everything is killed at once; the disks keep what was written."""
        run("docker", "exec", self.container, *SWAP_OFF, check=False)
        run("docker", "restart", "--time", "0", self.container)
        self.wait()

    def cut(self) -> None:
        """Pull the network cable."""
        run("docker", "network", "disconnect", NETWORK, self.container)

    def join(self) -> None:
        """Plug the network cable in again."""
        run("docker", "network", "connect", "--ip", self.address, "--alias", self.domain, NETWORK, self.container)

    def wait(self, timeout_s: float = 90) -> None:
        """Until the host is up and SSH answers."""
        self.booted(timeout_s)
        self._wait(lambda: self.ssh("true", check=False).returncode == 0, "SSH does not answer", timeout_s)

    def booted(self, timeout_s: float = 90) -> None:
        if self.kind != "light":
            self._wait(
                lambda: self.run("systemctl is-system-running", check=False).stdout.strip() in ("running", "degraded"),
                "did not start",
                timeout_s,
            )

    def ssh(self, words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run("ssh", "-i", ssh_key(), *SSH_OPTIONS, f"operator@{self.address}", words, check=check)

    def _wait(self, ready: Any, what: str, timeout_s: float = 90) -> None:
        end = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() > end:
                raise FleetError(f"{self.name}: {what} within {timeout_s:.0f} s; `docker logs {self.container}`")
            time.sleep(0.3)


def hosts() -> list[Host]:
    """The hosts there are, by name."""
    form = f'{{{{.Names}}}} {{{{.Label "{LABEL}.kind"}}}} {{{{.Label "{LABEL}.address"}}}}'
    lines = run("docker", "ps", "--all", "--filter", f"label={LABEL}", "--format", form).stdout.splitlines()
    found = [line.split() for line in lines]
    return sorted(
        (Host(name.removeprefix("lefleet-"), kind, address) for name, kind, address in found),  # type: ignore[arg-type]
        key=lambda host: host.name,
    )


def up(name: str, kind: Kind = "jetson", drives: Sequence[tuple[int, str]] = ()) -> Host:
    """A new host with its drives (MB, serial). Returns when SSH answers."""
    ensure_engine()
    image = host_image(kind)
    if run("docker", "network", "inspect", NETWORK, check=False).returncode != 0:
        run("docker", "network", "create", "--subnet", SUBNET, NETWORK, check=False)
    if any(host.name == name for host in hosts()):
        raise FleetError(f"host {name} exists; `fleet.py down {name}` first")
    loops = [(attach(name, serial, size_mb), serial) for size_mb, serial in drives]
    host = Host(name, kind, "")
    for _ in range(5):  # another process may take the same address
        host = Host(name, kind, _free_address())
        made = run(*_command(host, image), check=False)
        if made.returncode == 0:
            break
        run("docker", "rm", "--force", "--volumes", host.container, check=False)
        if "ddress already in use" not in made.stderr:
            raise FleetError(made.stderr)
    host.booted()
    _prepare(host, loops)
    host.wait()
    return host


def _command(host: Host, image: str) -> list[str]:
    light = host.kind == "light"
    words = ["docker", "run", "--detach", "--name", host.container, "--hostname", host.name, "--restart", "always"]
    words += ["--network", NETWORK, "--ip", host.address, "--network-alias", host.domain, "--label", LABEL]
    words += ["--label", f"{LABEL}.kind={host.kind}", "--label", f"{LABEL}.address={host.address}"]
    if light:
        start = "mkdir -p /run/sshd && ssh-keygen -A && exec /usr/sbin/sshd -D"
        return [*words, image, "bash", "-c", start]
    for capability in CAPABILITIES:
        words += ["--cap-add", capability]
    words += [
        "--cgroupns=host",
        "--volume",
        "/sys/fs/cgroup:/sys/fs/cgroup:rw",
        "--tmpfs",
        "/run",
        "--tmpfs",
        "/run/lock",
    ]
    words += [
        "--tmpfs",
        "/tmp:exec",  # noqa: S108 - the host's own
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "apparmor=unconfined",
    ]
    words += ["--device-cgroup-rule", "a *:* rwm", "--volume", "/var/lib/docker"]
    return [*words, image]


def _prepare(host: Host, loops: list[tuple[str, str]]) -> None:
    key = ssh_key().with_suffix(".pub").read_text()
    host.write("/home/operator/.ssh/authorized_keys", key)
    host.run(
        "chown operator:operator /home/operator/.ssh/authorized_keys; chmod 0600 /home/operator/.ssh/authorized_keys"
    )
    if loops:
        lines = [f"nvme{index}n1 {Path(loop).name} {serial}" for index, (loop, serial) in enumerate(loops)]
        host.write("/etc/simulated-drives", "\n".join(lines) + "\n")
        host.run("systemctl start simulated-udev")


def _free_address() -> str:
    taken = {host.address for host in hosts()}
    stem = SUBNET.rsplit(".", 1)[0]
    addresses = (f"{stem}.{last}" for last in range(FIRST_ADDRESS, LAST_ADDRESS))
    return next(address for address in addresses if address not in taken)


def backing(name: str, serial: str) -> Path:
    """The sparse file behind a drive."""
    return CACHE / "drives" / f"{name}-{serial}.img"


def attach(name: str, serial: str, size_mb: int) -> str:
    """A new, empty drive. Returns its loop device."""
    path = backing(name, serial)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size_mb * 1_000_000)
    for _ in range(20):  # a loop device may be taken by another process between the question and the answer
        loop = run("losetup", "--find").stdout.strip()
        if not Path(loop).exists():
            number = int(loop.removeprefix("/dev/loop"))
            os.mknod(loop, 0o660 | 0o060000, os.makedev(7, number))
        if run("losetup", "--partscan", loop, path, check=False).returncode == 0:
            return loop
    raise FleetError("no loop device can be had; `losetup --list` shows who has them")


def down(names: Iterable[str]) -> None:
    """Remove hosts, their drives and what they switched on in the kernel."""
    for name in names:
        container = f"lefleet-{name}"
        run("docker", "exec", container, *SWAP_OFF, check=False)
        run("docker", "rm", "--force", "--volumes", container, check=False)
        for path in (CACHE / "drives").glob(f"{name}-*.img"):
            if path.name.rsplit("-", 1)[0] == name:
                for line in run("losetup", "--associated", path, check=False).stdout.splitlines():
                    run("losetup", "--detach", line.split(":")[0], check=False)
                path.unlink()


def inventory(members: Iterable[Host], variables: dict[str, Any] | None = None) -> dict[str, Any]:
    """An Ansible inventory of hosts, all in the group `all`."""
    shared = {
        "ansible_user": "operator",
        "ansible_ssh_private_key_file": str(ssh_key()),
        "ansible_ssh_common_args": " ".join(SSH_OPTIONS),
        "ansible_host_key_checking": False,  # Mitogen goes by this, whatever the options above say
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return {
        "all": {
            "hosts": {host.name: {"ansible_host": host.address} for host in members},
            "vars": {**shared, **(variables or {})},
        }
    }


# --- command line ----------------------------------------------------------------------------------------------------

cli = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
console = Console()
Names = Annotated[list[str] | None, typer.Argument()]


def _drive(text: str) -> tuple[int, str]:
    size, _, serial = text.partition(":")
    if not size.isdigit() or not serial.isalnum():
        raise typer.BadParameter(f"{text!r}: write SIZE_MB:SERIAL, as in 2048:S1")
    return int(size), serial


def _named(names: Sequence[str]) -> list[Host]:
    there = {host.name: host for host in hosts()}
    unknown = [name for name in names if name not in there]
    if unknown:
        raise FleetError(f"no host {', '.join(unknown)}; there are: {', '.join(there) or 'none'}")
    return [there[name] for name in names] or list(there.values())


@cli.command("up")
def _up(
    name: str,
    kind: Annotated[str, typer.Option(help="jetson, server or light (sshd and Python alone).")] = "jetson",
    drive: Annotated[list[str] | None, typer.Option(help="SIZE_MB:SERIAL of an NVMe drive; may be repeated.")] = None,
) -> None:
    """Start a host; prints its address when SSH answers."""
    if kind not in get_args(Kind):
        raise typer.BadParameter(f"--kind {kind}: choose from {', '.join(get_args(Kind))}")
    print(up(name, kind, [_drive(text) for text in drive or []]).address)  # type: ignore[arg-type]


@cli.command("down")
def _down(names: Names = None, every: Annotated[bool, typer.Option("--all")] = False) -> None:
    """Remove hosts and their drives."""
    down([host.name for host in hosts()] if every else names or [])


@cli.command("list")
def _list(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False) -> None:
    """The hosts there are."""
    found = hosts()
    if as_json:
        print(json.dumps([{"name": host.name, "kind": host.kind, "address": host.address} for host in found]))
        return
    table = Table("name", "kind", "address")
    for host in found:
        table.add_row(host.name, host.kind, host.address)
    console.print(table)


@cli.command("inventory")
def _inventory(names: Names = None) -> None:
    """Print an inventory of hosts (default: all) as YAML."""
    print(yaml.safe_dump(inventory(_named(names or [])), sort_keys=False), end="")


@cli.command("ssh")
def _ssh(name: str, words: Names = None) -> None:
    """Log in to a host, or run a command there, as the operator."""
    host = _named([name])[0]
    os.execvp("ssh", ["ssh", "-i", str(ssh_key()), *SSH_OPTIONS, f"operator@{host.address}", *(words or [])])  # noqa: S606


@cli.command("images")
def _images() -> None:
    """Build the hosts' images, if their content changed."""
    ensure_engine()
    for kind in ("server", "jetson"):
        print(host_image(kind))  # type: ignore[arg-type]


if __name__ == "__main__":
    try:
        cli()
    except FleetError as error:
        print(f"fleet: {error}", file=sys.stderr)
        raise SystemExit(1) from error
