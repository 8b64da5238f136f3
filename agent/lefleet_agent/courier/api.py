"""The server as the robot sees it: HTTP API version 1, and tus 1.0 for uploads. The only courier module with httpx."""

import base64
import json
import ssl
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

TUS = {"Tus-Resumable": "1.0.0"}
READ_BYTES = 256 * 1024


class ServerError(Exception):
    """The server was not satisfied. Each kind says what the caller does next."""


class Retryable(ServerError):  # noqa: N818 - named by what to do
    """Unreachable, overloaded or restarting: the same request may succeed later."""


class Rejected(ServerError):  # noqa: N818
    """The server will never accept this; the message is its reason."""


class Unauthorised(ServerError):  # noqa: N818
    """The credential is unknown or revoked: enrol again."""


class UploadGone(ServerError):  # noqa: N818
    """The partial upload is not there any more: begin a new one."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The server's proof that it has an episode."""

    receipt_id: str
    sha256: str
    episode_id: str
    bytes: int
    received_wall_ns: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class ServerApi:
    """One robot's view of the server. `token` is the robot's credential; enrolment needs none."""

    def __init__(
        self, server_url: str, token: str | None = None, timeout_s: float = 10.0, trust: ssl.SSLContext | None = None
    ) -> None:
        """`trust`: what the server's certificate is checked against; None: what the system trusts."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=server_url.rstrip("/") + "/api/v1",
            headers=headers,
            timeout=timeout_s,
            follow_redirects=False,
            verify=trust or True,
        )

    def close(self) -> None:
        self._http.close()

    def enrol(self, code: str, robot_id: str, agent_version: str, hw: str) -> str:
        """Turn a one-time code into this robot's credential. Raises Rejected with the server's reason."""
        body = {"code": code, "robot_id": robot_id, "agent_version": agent_version, "hw": hw}
        return str(self._call("POST", "/robots/enrol", json=body).json()["token"])

    def heartbeat(self, body: dict[str, Any]) -> dict[str, Any]:
        reply: dict[str, Any] = self._call("POST", "/robot/heartbeat", json=body).json()
        return reply

    def put_camera(self, name: str, jpeg: bytes) -> None:
        self._call("PUT", f"/robot/cameras/{name}", content=jpeg, headers={"Content-Type": "image/jpeg"})

    def receipt(self, sha256: str) -> Receipt | None:
        """The receipt of an episode with these bytes, or None if the server does not have them."""
        try:
            values = self._call("GET", f"/robot/receipts/{sha256}").json()
        except UploadGone:
            return None
        return Receipt(**{name: values[name] for name in Receipt.__dataclass_fields__})

    def create_upload(self, size_bytes: int, sha256: str, episode_id: str) -> str:
        """Announce an upload; returns the URL to send its bytes to."""
        metadata = ",".join(
            f"{name} {base64.b64encode(value.encode()).decode()}"
            for name, value in (("sha256", sha256), ("episode_id", episode_id))
        )
        headers = TUS | {"Upload-Length": str(size_bytes), "Upload-Metadata": metadata}
        answer = self._call("POST", "/robot/uploads", headers=headers)
        return str(httpx.URL(str(answer.request.url)).join(answer.headers["Location"]))

    def upload_offset(self, url: str) -> int:
        """Bytes the server already has of this upload. Raises UploadGone."""
        return int(self._call("HEAD", url, headers=TUS).headers["Upload-Offset"])

    def send_bytes(self, url: str, path: Path, offset: int, length: int) -> int:
        """Send `length` bytes of the file from `offset` on; returns the server's new offset."""
        headers = TUS | {
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(length),
        }
        answer = self._call("PATCH", url, headers=headers, content=_part(path, offset, length))
        return int(answer.headers["Upload-Offset"])

    def _call(self, method: str, url: str, **request: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, url, **request)
        except httpx.TransportError as error:
            # Retryable too: a robot without a battery-backed clock takes a good certificate for a future one.
            remedy = "; check server_ca_file and this machine's clock" if "CERTIFICATE_VERIFY" in str(error) else ""
            raise Retryable(f"{method} {url}: {error or type(error).__name__}{remedy}") from error
        if answer.is_success:
            return answer
        raise _error(answer, f"{method} {answer.request.url.path}: {answer.status_code} {_problem(answer)}")


def _error(answer: httpx.Response, message: str) -> ServerError:
    """Only what the server says of this very file is final: a proxy that answers 400 to all must cost no episode."""
    match answer.status_code:
        case 401 | 403:
            return Unauthorised(message)
        case 404 | 410:
            return UploadGone(message)
        case 413 | 422:
            return Rejected(message)
        case 409 if _json(answer).get("type", "").endswith("/episode-exists"):
            return Rejected(message)
        case _:
            return Retryable(message)


def _json(answer: httpx.Response) -> dict[str, Any]:
    """The body if it is a JSON object, as a problem document (RFC 9457) is, else {}."""
    try:
        body = answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return body if isinstance(body, dict) else {}


def _problem(answer: httpx.Response) -> str:
    """The reason in a problem document, or what stands in the body instead."""
    body = _json(answer)
    errors = "; ".join(f"{each.get('field')}: {each.get('message')}" for each in body.get("errors") or [])
    return ": ".join(part for part in (body.get("title"), body.get("detail"), errors) if part) or answer.text[:200]


def _part(path: Path, offset: int, length: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while length > 0 and (block := file.read(min(length, READ_BYTES))):
            length -= len(block)
            yield block
