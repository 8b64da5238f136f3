"""The server's HTTP API: one request at a time, every failure a Failure that a person understands."""

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Self
from urllib.parse import quote

import httpx

from lefleet_server import __version__
from lefleet_server.cli.failures import Refused, Unreachable, usage
from lefleet_server.cli.output import clean
from lefleet_server.cli.profiles import Profile

API = "/api/v1"
SESSION_COOKIE = "lefleet_session"
PAGE = 500
"""Most that the server gives at once."""
_DIGEST = re.compile(r'"([0-9a-f]{64})"')
_TRY_AGAIN = {429, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Body:
    """An answer that is read as it comes; `start`: of the file, where it begins; `length`: of what comes, if told."""

    start: int
    etag: str
    length: int | None
    pieces: Iterator[bytes]

    @property
    def sha256(self) -> str | None:
        """Of the whole file, where the ETag says it."""
        found = _DIGEST.fullmatch(self.etag)
        return found[1] if found else None


class Api:
    """Building it opens no connection. May be used by several threads."""

    def __init__(self, profile: Profile, timeout_s: float = 30.0) -> None:
        self.profile = profile
        self._http = httpx.Client(
            base_url=profile.url,
            headers={"Authorization": f"Bearer {profile.token}"} if profile.token else {},
            verify=_trust(profile),
            timeout=timeout_s,
        )
        self._http.headers["User-Agent"] = f"lefleet/{__version__}"
        self._timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None, **names: object) -> Any:
        """The answer's JSON. `names` fill the path's braces, whatever characters they have."""
        return self._json("GET", path, names, params=_given(params))

    def put(self, path: str, json: object = None, **names: object) -> Any:
        return self._json("PUT", path, names, json=json)

    def post(self, path: str, json: object = None, params: Mapping[str, Any] | None = None, **names: object) -> Any:
        return self._json("POST", path, names, json=json, params=_given(params))

    def patch(self, path: str, json: object, **names: object) -> Any:
        return self._json("PATCH", path, names, json=json)

    def delete(self, path: str, params: Mapping[str, Any] | None = None, **names: object) -> Any:
        return self._json("DELETE", path, names, params=_given(params))

    def image(self, path: str, **names: object) -> bytes:
        """A picture's bytes."""
        return self._ask("GET", path, names).content

    def ready(self) -> dict[str, Any]:
        """What the server says about itself, also when it is not ready: {ready, checks}."""
        answer = self._send("GET", "/readyz", {})
        if answer.status_code not in {200, 503} or "ready" not in (said := self._decoded(answer)):
            self._raise(answer)
        return dict(said)

    def session(self, credentials: Mapping[str, str]) -> str:
        """Logs in, by username and password or by the code of a link; the session's token."""
        answer = self._send("POST", f"{API}/login", {"json": credentials})
        if answer.is_error:
            raise _refusal(answer, self.profile, asked_to_log_in=True)
        token = answer.cookies.get(SESSION_COOKIE)
        if token is None:
            self._raise(answer)
        return token

    @contextmanager
    def stream(self, path: str, start: int, etag: str, **names: object) -> Iterator[Body]:
        """A file from `start` on, if it is still the one with this ETag; otherwise from its beginning.

        The server may say where its object store has the file; which file that is, the server's ETag tells.
        """
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        url, only_if = API + _filled(path, names), {"If-Range": etag} if start else {}
        try:
            with self._http.stream("GET", url, headers=headers | only_if) as answer:
                if answer.status_code != 307 or "etag" not in answer.headers:
                    yield self._body(answer)
                    return
                said, where = answer.headers["etag"], self._elsewhere(answer)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        # A client without the token. Without If-Range too, since the store's ETags are its own: bytes of another file
        # have another SHA-256.
        try:
            with (
                httpx.Client(verify=_trust_too(self.profile), timeout=self._timeout_s) as store,
                store.stream("GET", where, headers=headers) as answer,
            ):
                if answer.status_code not in {200, 206}:
                    raise Unreachable(f"{where.host}: the object store answered {answer.status_code}; try again")
                yield replace(self._body(answer), etag=said)
        except httpx.HTTPError as error:
            raise Unreachable(f"{where.host}: {_why(error, self.profile)}") from error

    def _body(self, answer: httpx.Response) -> Body:
        if answer.status_code not in {200, 206}:
            answer.read()
            self._raise(answer)
        length = answer.headers.get("content-length", "")
        known = int(length) if length.isdigit() else None
        return Body(self._start(answer), answer.headers.get("etag", ""), known, self._pieces(answer))

    def _elsewhere(self, answer: httpx.Response) -> httpx.URL:
        """Raises Failure for what is no address, and for one that anybody on the way could read."""
        try:
            where = httpx.URL(answer.headers.get("location", ""))
        except httpx.InvalidURL:
            self._raise(answer)
        if where.scheme not in ({"https"} if self.profile.url.startswith("https://") else {"https", "http"}):
            self._raise(answer)
        return where

    def _pieces(self, answer: httpx.Response) -> Iterator[bytes]:
        yield from answer.iter_raw()

    def _start(self, answer: httpx.Response) -> int:
        if answer.status_code == 200:
            return 0
        found = answer.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
        if not found.isdigit():
            self._raise(answer)
        return int(found)

    def _json(self, method: str, path: str, names: Mapping[str, object], **options: Any) -> Any:
        answer = self._ask(method, path, names, **options)
        return self._decoded(answer) if answer.content else {}

    def _ask(self, method: str, path: str, names: Mapping[str, object], **options: Any) -> httpx.Response:
        answer = self._send(method, API + _filled(path, names), options)
        if not answer.is_success:
            self._raise(answer)
        return answer

    def _send(self, method: str, url: str, options: Mapping[str, Any]) -> httpx.Response:
        try:
            return self._http.request(method, url, **options)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _decoded(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            self._raise(answer)

    def _raise(self, answer: httpx.Response) -> NoReturn:
        raise _refusal(answer, self.profile)

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        return Unreachable(f"{self.profile.url}: {_why(error, self.profile)}")


class Pages:
    """The items of a list, page by page, at most `most`; `more` says afterwards whether there are others."""

    def __init__(self, api: Api, path: str, params: Mapping[str, Any], most: int | None, page: int = PAGE) -> None:
        self._api, self._path, self._params, self._most, self._page = api, path, params, most, page
        self.more = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        left, cursor = self._most, None
        while left is None or left > 0:
            limit = self._page if left is None else min(left, self._page)
            page = self._api.get(self._path, {**self._params, "limit": limit, "cursor": cursor})
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            cursor = page.get("next_cursor")  # a server of the release before tells all robots at once
            self.more = cursor is not None
            if cursor is None:
                return


def _filled(path: str, names: Mapping[str, object]) -> str:
    """Raises Failure for a name that would make it another path."""
    for name, value in names.items():
        if str(value) in {"", ".", ".."} or "/" in str(value):
            raise usage(f"{name}: {str(value)!r}: is no name; look it up with a `list` command")
    return path.format_map({name: quote(str(value), safe="") for name, value in names.items()})


def _given(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (params or {}).items() if value is not None}


def _trust(profile: Profile) -> ssl.SSLContext | bool:
    """Where an authority is named, it alone is trusted."""
    if not profile.url.startswith("https://"):
        return True
    try:
        return ssl.create_default_context(cafile=profile.ca_file)
    except FileNotFoundError:
        raise usage(f"ca_file: {profile.ca_file}: no such file; copy the server's ca.crt there") from None
    except (OSError, ssl.SSLError) as error:
        raise usage(f"ca_file: {profile.ca_file}: no certificates in PEM form can be read: {error}") from error


def _trust_too(profile: Profile) -> ssl.SSLContext:
    """The object store is a cloud's, or has a certificate of the fleet's authority."""
    trusted = ssl.create_default_context()
    if profile.ca_file and profile.url.startswith("https://"):
        trusted.load_verify_locations(profile.ca_file)
    return trusted


def _why(error: httpx.HTTPError, profile: Profile) -> str:
    text = str(error)
    if "CERTIFICATE_VERIFY" in text:
        known = f"{profile.ca_file}" if profile.ca_file else "this machine's authorities"
        return (
            f"its certificate is not one of {known}; for the fleet's own authority copy "
            "/opt/lefleet/server/ca.crt from the server and log in with --ca-file"
        )
    if isinstance(error, httpx.TimeoutException):
        return "did not answer in time; look whether the server runs and the network is there"
    if isinstance(error, httpx.ConnectError):
        return f"cannot be reached ({clean(text)}); look at the address, the network and the server"
    return f"the connection broke ({clean(text) or type(error).__name__}); try again"


def _refusal(answer: httpx.Response, profile: Profile, asked_to_log_in: bool = False) -> Refused:
    code, url = answer.status_code, profile.url
    detail = _detail(answer)
    again = _seconds(answer.headers.get("retry-after")) if code in _TRY_AGAIN else None
    if detail is None:
        where = clean(answer.headers.get("location", ""))
        other = f"sends elsewhere ({where}); log in with that address" if answer.is_redirect else (
            f"answered {code} {answer.reason_phrase} and no word of LeFleet's; look whether the address is right, and "
            "whether a proxy or a portal stands before it"
        )  # fmt: skip
        return Refused(f"{url}: {other}", code, again)
    if code == 401 and not asked_to_log_in:
        return Refused(
            f"{url}: the token is not valid (any more): it expired, was revoked, or is another server's; "
            f"log in again: `lefleet login {url}`",
            code,
        )
    return Refused("; ".join([detail, *_corrections(answer)]) if code == 401 else detail, code, again)


def _detail(answer: httpx.Response) -> str | None:
    """The sentence of a problem document; None when it is none of the server's own."""
    if not answer.headers.get("content-type", "").startswith("application/problem+json"):
        return None
    try:
        return clean(str(answer.json()["detail"]))
    except (ValueError, KeyError, TypeError):
        return None


def _corrections(answer: httpx.Response) -> list[str]:
    """What a problem document says of single fields."""
    try:
        return [clean(str(each["message"])) for each in answer.json()["errors"]]
    except (ValueError, KeyError, TypeError):
        return []


def _seconds(text: str | None) -> float:
    return min(float(text), 60.0) if text is not None and text.isdigit() else 1.0
