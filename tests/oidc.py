"""A real OpenID Connect provider in a process of its own, and who stands before it and cheats."""

import json
import os
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

START_S = 60


class Provider:
    """`oidc-provider-mock`: any client and secret, and people as `know` made them; it signs with a key of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "oidc_provider_mock", "--host", "127.0.0.1", "--port", str(port)]
        environment = os.environ | {"AUTHLIB_INSECURE_TRANSPORT": "1"}  # it listens on this machine only
        with (folder / "provider.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, (folder / "provider.log").read_text()
            time.sleep(0.1)

    def know(self, sub: str, **claims: object) -> None:
        httpx.put(f"{self.url}/users/{sub}", json=claims).raise_for_status()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/.well-known/openid-configuration").is_success
        except httpx.TransportError:
            return False


class Between:
    """Stands before the real provider, under an address of its own: counts, checks what the server sends, and cheats.

    `spoil(claims, key)` returns another ID token than the real one; `down` answers 503.
    """

    def __init__(self, behind: str, url: str) -> None:
        self.behind, self.url = behind, url
        self.key = RSAKey.generate_key(2048, {"kid": "ours", "use": "sig"})
        self.other_key = RSAKey.generate_key(2048, {"kid": "ours", "use": "sig"})
        self.spoil: Callable[[dict, RSAKey], str] | None = None
        self.down = False
        self.asked: list[str] = []
        self.challenges: dict[str, str] = {}
        self.keys_served = self.key
        self.documents: dict[str, object] = {}

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] == "lifespan":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status, headers, answer = await self._answer(scope, body)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(self, scope: dict, body: bytes) -> tuple[int, list, bytes]:
        path, query = scope["path"], scope["query_string"].decode()
        self.asked.append(path)
        if self.down:
            return 503, [], b"try later"
        if path in self.documents:
            return 200, [(b"content-type", b"application/json")], json.dumps(self.documents[path]).encode()
        if path == "/jwks" and self.spoil:
            return 200, [], json.dumps({"keys": [{"kty": "new"}, self.keys_served.as_dict(private=False)]}).encode()
        sent = {name.decode(): value.decode() for name, value in scope["headers"] if name != b"host"}
        sent |= {"x-forwarded-host": urlsplit(self.url).netloc, "x-forwarded-proto": "http"}
        async with httpx.AsyncClient() as http:
            got = await http.request(scope["method"], f"{self.behind}{path}?{query}", headers=sent, content=body)
        answer, headers = got.content, [(b"content-type", got.headers.get("content-type", "").encode())]
        if "location" in got.headers:
            headers.append((b"location", got.headers["location"].encode()))
            code = parse_qs(urlsplit(got.headers["location"]).query).get("code", [""])[0]
            self.challenges[code] = parse_qs(query)["code_challenge"][0]
        if path.endswith("/token"):
            form = dict(parse_qsl(body.decode()))
            expected = self.challenges.get(form["code"])
            shown = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
            if expected is not None and shown != expected:  # as RFC 7636 asks; the provider behind does not look
                return 400, headers, b'{"error": "invalid_grant"}'
            if self.spoil and got.is_success:
                tokens = got.json()
                claims = dict(jwt.decode(tokens["id_token"], await self._real_keys()).claims)
                answer = json.dumps(tokens | {"id_token": self.spoil(claims, self.key)}).encode()
        return got.status_code, headers, answer

    async def _real_keys(self) -> KeySet:
        async with httpx.AsyncClient() as http:
            return KeySet.import_key_set((await http.get(f"{self.behind}/jwks")).json())
