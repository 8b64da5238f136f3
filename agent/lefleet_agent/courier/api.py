"""The server as the robot sees it: HTTP API version 1, and tus 1.0 for uploads. The only courier module with httpx.

Whatever answers in the server's place (a proxy, a portal that wants a log-in, a machine that drips bytes) costs a retry
and nothing else: only a problem document of LeFleet's own is final, and every request ends.
"""

import base64
import copy
import json
import ssl
import threading
import time
from collections.abc import Collection, Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from lefleet_agent.courier.errors import Garbled, Rejected, Retryable, ServerError, Unauthorised, UploadGone
from lefleet_agent.courier.pace import http_date_s, retry_after_s
from lefleet_agent.courier.patience import Patience
from lefleet_agent.courier.tokens import Tokens
from lefleet_agent.courier.wish import Wish, read
from lefleet_agent.files import blocks

TUS = {"Tus-Resumable": "1.0.0"}
PROBLEM = "application/problem+json"
# The server closes idle connections after five seconds; one that it is just closing must not take a request along.
IDLE_MAX_S = 3.0
INTERVAL_S = (0.2, 300.0)


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


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    interval_s: float
    """When the server wants the next one."""
    instance: str
    """Changes with each start of the server; empty from one that does not tell."""
    watched: bool = True
    """Whether somebody looks at this robot's pictures; taken for granted where the server does not tell."""


class ServerApi:
    """One robot's view of the server. `tokens` is the robot's credential; enrolment needs none.

    Each thread that calls talks over a line of its own, so that one that hangs holds up no other.
    """

    def __init__(
        self,
        server_url: str,
        tokens: Tokens | str | None = None,
        timeout_s: float = 10.0,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """`trust`: what the server's certificate is checked against; None: what the system trusts."""
        self._options: dict[str, Any] = {
            "base_url": server_url.rstrip("/") + "/api/v1",
            "auth": _Bearer(Tokens(tokens) if isinstance(tokens, str) else tokens) if tokens else None,
            "timeout": timeout_s,
            "limits": httpx.Limits(keepalive_expiry=IDLE_MAX_S),
            "follow_redirects": False,
            "verify": trust or httpx.create_ssl_context(),
        }
        self._answer_max_s = 2 * timeout_s
        self._own = threading.local()
        self._lines: list[_Line] = []
        self.clock_offset_s: float | None = None
        """How far the server's clock is ahead of this machine's, to the second; None until it answered."""

    def twin(self) -> "ServerApi":
        """The same server over lines of its own, which can be hung up alone."""
        twin = copy.copy(self)
        twin._own, twin._lines = threading.local(), []
        return twin

    def close(self) -> None:
        for line in self._lines:
            line.http.close()

    def hang_up(self) -> None:
        """End what every thread is waiting for, with Retryable."""
        for line in self._lines:
            line.patience.hang_up()

    def enrol(self, code: str, robot_id: str, agent_version: str, hw: str) -> str:
        """Turn a one-time code into this robot's credential. Raises Rejected with the server's reason."""
        body = {"code": code, "robot_id": robot_id, "agent_version": agent_version, "hw": hw}
        return str(_values(self._call("POST", "/robots/enrol", json=body), "token")["token"])

    def renew_credential(self) -> str:
        """A new token. The one that asked works until this one is used. Raises UploadGone where there is no such."""
        return str(_values(self._call("POST", "/robot/credential"), "token")["token"])

    def heartbeat(self, body: dict[str, Any]) -> HeartbeatReply:
        values = _values(self._call("POST", "/robot/heartbeat", json=body), "interval_s")
        try:
            least, most = INTERVAL_S
            interval_s = min(max(float(values["interval_s"]), least), most)
            return HeartbeatReply(interval_s, str(values.get("instance", "")), values.get("watched", True) is not False)
        except (TypeError, ValueError) as error:
            raise Retryable(f"the heartbeat's answer: interval_s is {values['interval_s']!r}, not seconds") from error

    def wish(self, stop: int, others: Mapping[str, int], wait_s: float) -> Wish:
        """As soon as there is one newer than these numbers, else the newest there is after `wait_s`.

        `others`: by kind, those that this robot obeys. `wait_s` must be shorter than the timeout.
        """
        numbers = {"since": stop} | {f"{kind}_since": number for kind, number in others.items()}
        answer = self._call("GET", "/robot/wishes", params=numbers | {"wait_s": wait_s})
        try:
            return read(_values(answer, "estop"))
        except ValueError as error:
            raise Retryable(f"{_place(answer)}: {error}{_STRANGER}") from error

    def put_camera(self, name: str, jpeg: bytes) -> None:
        self._call("PUT", f"/robot/cameras/{name}", content=jpeg, headers={"Content-Type": "image/jpeg"})

    def receipt(self, sha256: str) -> Receipt | None:
        """The receipt of an episode with these bytes, or None if the server does not have them."""
        try:
            answer = self._call("GET", f"/robot/receipts/{sha256}")
        except UploadGone:
            return None
        values = _values(answer, *Receipt.__dataclass_fields__)
        return Receipt(**{name: values[name] for name in Receipt.__dataclass_fields__})

    def missing(self, digests: Collection[str]) -> set[str]:
        """Which of these episodes the server does not have. Raises UploadGone when it cannot be asked."""
        values = _values(self._call("POST", "/robot/receipts/missing", json={"sha256": list(digests)}), "sha256")
        return set(digests) & set(map(str, values["sha256"] or ()))

    def create_upload(self, size_bytes: int, sha256: str, episode_id: str) -> str:
        """Announce an upload; returns the URL to send its bytes to."""
        metadata = ",".join(
            f"{name} {base64.b64encode(value.encode()).decode()}"
            for name, value in (("sha256", sha256), ("episode_id", episode_id))
        )
        headers = TUS | {"Upload-Length": str(size_bytes), "Upload-Metadata": metadata}
        answer = self._call("POST", "/robot/uploads", headers=headers)
        asked = answer.request.url
        url = asked.join(_header(answer, "Location"))
        if (url.scheme, url.host, url.port) != (asked.scheme, asked.host, asked.port):
            # Not anybody's word that the robot's credential should go somewhere else.
            raise Retryable(f"POST {asked}: sends uploads to {url}; a proxy on the way rewrites Location wrongly")
        return str(url)

    def upload_offset(self, url: str) -> int:
        """Bytes the server already has of this upload. Raises UploadGone."""
        return _number(self._call("HEAD", url, headers=TUS), "Upload-Offset")

    def send_bytes(self, url: str, path: Path, offset: int, length: int) -> int:
        """Send `length` bytes of the file from `offset` on; returns the server's new offset. Raises OSError too."""
        headers = TUS | {
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(length),
        }
        return _number(self._call("PATCH", url, headers=headers, content=blocks(path, offset, length)), "Upload-Offset")

    def _call(self, method: str, url: str, **request: Any) -> httpx.Response:
        begun_s = time.monotonic()
        try:
            answer = self._line().request(method, url, **request)
        except httpx.RequestError as error:
            # Retryable too: a robot without a battery-backed clock takes a good certificate for a future one.
            remedy = "; check server_ca_file and this machine's clock" if "CERTIFICATE_VERIFY" in str(error) else ""
            raise Retryable(f"{method} {url}: {error or type(error).__name__}{remedy}") from error
        self._compare_clocks(answer.headers.get("Date"), time.monotonic() - begun_s)
        if answer.is_success:
            return answer
        raise _error(answer, f"{method} {answer.request.url.path}: {answer.status_code} {_problem(answer)}")

    def _line(self) -> "_Line":
        if not hasattr(self._own, "line"):
            self._own.line = _Line(httpx.Client(**self._options), self._answer_max_s)
            self._lines.append(self._own.line)
        line: _Line = self._own.line
        return line

    def _compare_clocks(self, date: str | None, took_s: float) -> None:
        """A date has whole seconds, cut off; it was written somewhere within the time that the request took."""
        server_s = http_date_s(date)
        if server_s is not None:
            self.clock_offset_s = round(server_s + 0.5 - (time.time() - took_s / 2), 1)


class _Bearer(httpx.Auth):
    """Shows the newest token, and the other one where that is refused."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        shown = self._tokens.current
        request.headers["Authorization"] = f"Bearer {shown}"
        answer = yield request
        # A body that was read from a disk as it went is gone: whoever sends it tries again by itself.
        whole = isinstance(request.stream, httpx.ByteStream)
        if answer.status_code == 401 and whole and (other := self._tokens.other(shown)):
            request.headers["Authorization"] = f"Bearer {other}"
            answer = yield request
            if answer.is_success:
                self._tokens.accepted(other, shown)


class _Line:
    """One thread's connection."""

    def __init__(self, http: httpx.Client, answer_max_s: float) -> None:
        self.http = http
        self.patience = Patience(answer_max_s)

    def request(self, method: str, url: str, **request: Any) -> httpx.Response:
        with self.patience:
            return self.http.request(method, url, extensions={"trace": self.patience.trace}, **request)


def _error(answer: httpx.Response, message: str) -> ServerError:
    """Only what LeFleet says of this very file is final: a proxy that answers 413 to all must cost no episode."""
    ours = answer.headers.get("Content-Type", "").partition(";")[0] == PROBLEM
    pause_s = retry_after_s(answer.headers.get("Retry-After"), answer.headers.get("Date"), time.time())
    match answer.status_code:
        case 401 | 403:
            return Unauthorised(message, pause_s)
        case 404 | 410:
            return UploadGone(message, pause_s)
        case 422 if ours and any(each.get("field") == "sha256" for each in _errors(answer)):
            return Garbled(message)
        case 413 | 422 if ours:
            return Rejected(message)
        case 409 if str(_json(answer).get("type")).endswith("/episode-exists"):
            return Rejected(message)
        case _:
            return Retryable(message, pause_s)


def _values(answer: httpx.Response, *names: str) -> dict[str, Any]:
    """The body, an object that has at least these names."""
    body = _json(answer)
    if lacking := [name for name in names if name not in body]:
        raise Retryable(f"{_place(answer)}: the answer has no {', '.join(lacking)}{_STRANGER}")
    return body


def _header(answer: httpx.Response, name: str) -> str:
    if name not in answer.headers:
        raise Retryable(f"{_place(answer)}: the answer has no header {name}{_STRANGER}")
    return str(answer.headers[name])


def _number(answer: httpx.Response, name: str) -> int:
    text = _header(answer, name)
    if not (text.isascii() and text.isdigit()):
        raise Retryable(f"{_place(answer)}: {name} is {text!r}, not a number{_STRANGER}")
    return int(text)


_STRANGER = "; is that LeFleet's server, or a portal that wants a log-in?"


def _place(answer: httpx.Response) -> str:
    return f"{answer.request.method} {answer.request.url}: {answer.status_code}"


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
    fields = "; ".join(f"{each.get('field')}: {each.get('message')}" for each in _errors(answer))
    return ": ".join(str(part) for part in (body.get("title"), body.get("detail"), fields) if part) or answer.text[:200]


def _errors(answer: httpx.Response) -> list[dict[str, Any]]:
    """What a problem document names as wrong."""
    errors = _json(answer).get("errors")
    return [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
