"""A registry on the fleet's network with TLS of its own authority: what tests pull from and push to."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

USER, PASSWORD = "lefleet", "not-a-secret"
# `htpasswd -nbB lefleet not-a-secret`
HTPASSWD = "lefleet:$2y$05$PML5nPySeH93MjNLOZs0fu5l7OsfjxWzNHuHQ7bDbwkbwUfNghs.m\n"


@dataclass(frozen=True, slots=True)
class Registry:
    """`address` is `host:port`; `authority` the PEM text that a host must trust."""

    address: str
    authority: str
    container: str

    def digest(self, name: str, tag: str) -> str | None:
        """What a tag stands for, `sha256:...`."""
        path = f"/var/lib/registry/docker/registry/v2/repositories/{name}/_manifests/tags/{tag}/current/link"
        done = subprocess.run(
            ["docker", "exec", self.container, "cat", path], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() or None

    def tags(self, name: str) -> set[str]:
        path = f"/var/lib/registry/docker/registry/v2/repositories/{name}/_manifests/tags"
        done = subprocess.run(
            ["docker", "exec", self.container, "ls", path], capture_output=True, text=True, check=False
        )
        return set(done.stdout.split())

    def close(self) -> None:
        subprocess.run(["docker", "rm", "--force", "--volumes", self.container], capture_output=True, check=False)


def start(image: str, network: str, address: str, folder: Path, authenticated: bool = False) -> Registry:
    """A running registry at an address of a network; `folder` gets its certificate and the images.

    Two may share a folder: one that is open, one where everything asks for the password.
    """
    _certificate(folder, address)
    container = f"lefleet-registry-{address.rpartition('.')[2]}"
    subprocess.run(["docker", "rm", "--force", "--volumes", container], capture_output=True, check=False)
    environment = {
        "REGISTRY_HTTP_ADDR": ":5443",
        "REGISTRY_HTTP_TLS_CERTIFICATE": f"/tls/{address}.crt",
        "REGISTRY_HTTP_TLS_KEY": f"/tls/{address}.key",
        "REGISTRY_STORAGE_CACHE": "null",
    }
    if authenticated:
        (folder / "htpasswd").write_text(HTPASSWD)
        environment |= {"REGISTRY_AUTH_HTPASSWD_REALM": "LeFleet", "REGISTRY_AUTH_HTPASSWD_PATH": "/tls/htpasswd"}
    words = [word for key, value in environment.items() for word in ("--env", f"{key}={value}")]
    (folder / "images").mkdir(exist_ok=True)
    subprocess.run(
        ["docker", "run", "--detach", "--name", container, "--network", network, "--ip", address,
         "--volume", f"{folder}:/tls:ro", "--volume", f"{folder / 'images'}:/var/lib/registry", *words, image],
        check=True, capture_output=True,
    )  # fmt: skip
    return Registry(f"{address}:5443", (folder / "ca.crt").read_text(), container)


def _certificate(folder: Path, address: str) -> None:
    def openssl(*words: str) -> None:
        subprocess.run([shutil.which("openssl") or "openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    if not (folder / "ca.crt").exists():
        openssl(
            "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=Test authority", "-days", "2"
        )
    openssl("req", *key, "-keyout", f"{address}.key", "-out", "request", "-subj", f"/CN={address}")
    (folder / "names").write_text(f"subjectAltName=IP:{address}\n")
    openssl("x509", "-req", "-in", "request", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", f"{address}.crt")  # fmt: skip
