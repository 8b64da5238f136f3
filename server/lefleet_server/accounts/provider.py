"""An OpenID Connect provider, asked as its specification says: discovery, code with PKCE, checked ID token.

https://openid.net/specs/openid-connect-core-1_0.html#CodeFlowAuth, https://www.rfc-editor.org/rfc/rfc9700
"""

import asyncio
import json
import re
import ssl
import time
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import httpx
from joserfc import jwt
from joserfc.errors import InvalidClaimError, JoseError
from joserfc.jwk import KeySet

from lefleet_server.accounts.attempt import Attempt
from lefleet_server.oidc_settings import OidcSettings, is_safe_address
from lefleet_server.secret import SecretFileError

TIMEOUT_S = 10.0
"""For all questions of one log-in together."""
ANSWER_MAX_BYTES = 1 << 20
KEEP_S = 3600.0
KEYS_AGAIN_S = 30.0
"""A token of an unknown key makes us look for new ones, but not for each made-up token."""
LEEWAY_S = 60
# No HMAC: the client secret is known to too many to prove who somebody is, and none is no signature.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
type Claims = Mapping[str, Any]


class ProviderDown(Exception):  # noqa: N818 - named by what to do: another way in, or later
    """It cannot be asked now, or is set up in a way that cannot work; the message says what is wrong, and no secret."""


class ProviderRefused(Exception):  # noqa: N818
    """What came back proves nobody: begin again."""


class Provider:
    """Building it touches nothing. Its documents are kept for an hour."""

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._issuer, self._client_id = settings.oidc_issuer or "", settings.oidc_client_id or ""
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    async def address(self, attempt: Attempt, redirect_uri: str) -> str:
        """Where the person's browser goes to prove who they are. Raises ProviderDown."""
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._settings.oidc_scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        async with self._client() as http, _patience():
            parts = urlsplit(await self._endpoint(http, "authorization_endpoint"))
        return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, urlencode(asked))))))

    async def person(self, code: str, attempt: Attempt, redirect_uri: str) -> Claims:
        """What the provider says about who came back: `sub` and, where it tells them, the claims of our settings.

        Raises ProviderDown, ProviderRefused.
        """
        async with self._client() as http, _patience():
            tokens = await self._exchange(http, code, attempt, redirect_uri)
            claims = await self._checked(http, str(tokens.get("id_token", "")), attempt.nonce)
            wanted = {self._settings.oidc_username_claim, self._settings.oidc_groups_claim}
            if not wanted <= set(claims) and tokens.get("access_token"):
                claims = {**await self._user_info(http, str(tokens["access_token"]), claims["sub"]), **claims}
        return claims

    async def _exchange(
        self, http: httpx.AsyncClient, code: str, attempt: Attempt, redirect_uri: str
    ) -> dict[str, Any]:
        metadata = await self._discovered(http)
        body = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": attempt.verifier,
        }
        headers = {"Accept": "application/json"}
        try:
            secret = self._settings.read_client_secret()
        except SecretFileError as error:
            raise ProviderDown(f"oidc_client_secret_file: {error}") from error
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if secret is None:
            body["client_id"] = self._client_id
        elif "client_secret_basic" in methods:
            # Encoded as a form first: RFC 6749, section 2.3.1.
            pair = f"{quote(self._client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            body |= {"client_id": self._client_id, "client_secret": secret}
        status, answer = await self._ask(
            http, "POST", await self._endpoint(http, "token_endpoint"), data=body, headers=headers
        )
        if status == httpx.codes.OK:
            return answer
        kind = word(answer.get("error"))
        if kind in {"invalid_client", "unauthorized_client"} or status == httpx.codes.UNAUTHORIZED:
            raise ProviderDown(f"it does not accept this server ({kind}): check oidc_client_id and its secret")
        if status < httpx.codes.INTERNAL_SERVER_ERROR:
            raise ProviderRefused(f"it did not accept the code ({kind})")
        raise ProviderDown(f"its token endpoint answered {status}")

    async def _checked(self, http: httpx.AsyncClient, id_token: str, nonce: str) -> dict[str, Any]:
        """The claims of an ID token whose signature, issuer, audience, times and nonce are right."""
        try:
            claims = dict((await self._decoded(http, id_token)).claims)
            jwt.JWTClaimsRegistry(
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": self._client_id},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(claims)
        except InvalidClaimError as error:
            raise ProviderRefused(f"its ID token is not for this log-in: {word(error.claim)} is wrong") from error
        except (JoseError, ValueError) as error:
            raise ProviderRefused(f"its ID token is not valid ({type(error).__name__})") from error
        audience = claims["aud"]
        several = isinstance(audience, list) and len(audience) > 1
        if (several or "azp" in claims) and claims.get("azp") != self._client_id:
            raise ProviderRefused("its ID token is not for this log-in: azp is wrong")
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
            raise ProviderRefused("its ID token is not for this log-in: sub is wrong")
        return claims

    async def _decoded(self, http: httpx.AsyncClient, id_token: str) -> jwt.Token:
        keys = await self._key_set(http, KEEP_S)
        try:
            return jwt.decode(id_token, keys, algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            newer = await self._key_set(http, KEYS_AGAIN_S)
            if newer is keys:
                raise
        return jwt.decode(id_token, newer, algorithms=ALGORITHMS)

    async def _key_set(self, http: httpx.AsyncClient, max_age_s: float) -> KeySet:
        if self._keys is None or time.monotonic() - self._keys[0] > max_age_s:
            document = await self._document(http, await self._endpoint(http, "jwks_uri"))
            self._keys = time.monotonic(), _usable(document)
        return self._keys[1]

    async def _user_info(self, http: httpx.AsyncClient, access_token: str, subject: str) -> dict[str, Any]:
        """Claims that are not in the ID token; none where the provider has no such endpoint."""
        if "userinfo_endpoint" not in await self._discovered(http):
            return {}
        url = await self._endpoint(http, "userinfo_endpoint")
        found = await self._document(http, url, headers={"Authorization": f"Bearer {access_token}"})
        if found.get("sub") != subject:
            raise ProviderRefused("it says somebody else's claims: sub of its userinfo is wrong")
        return found

    async def _endpoint(self, http: httpx.AsyncClient, name: str) -> str:
        url = (await self._discovered(http)).get(name)
        if not isinstance(url, str) or not is_safe_address(url):
            raise ProviderDown(f"its discovery document has no {name} that begins with https://")
        return url

    async def _discovered(self, http: httpx.AsyncClient) -> dict[str, Any]:
        if self._metadata is None or time.monotonic() - self._metadata[0] > KEEP_S:
            document = await self._document(http, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if document.get("issuer") != self._issuer:
                raise ProviderDown(f"it calls itself {document.get('issuer')!r}; oidc_issuer must say the same")
            self._metadata = time.monotonic(), document
        return self._metadata[1]

    async def _document(self, http: httpx.AsyncClient, url: str, **request: Any) -> dict[str, Any]:
        status, answer = await self._ask(http, "GET", url, **request)
        if status != httpx.codes.OK:
            raise ProviderDown(f"{url} answered {status}")
        return answer

    async def _ask(self, http: httpx.AsyncClient, method: str, url: str, **request: Any) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of an answer."""
        body = bytearray()
        try:
            async with http.stream(method, url, **request) as answer:
                async for block in answer.aiter_bytes():
                    body += block
                    if len(body) > ANSWER_MAX_BYTES:
                        raise ProviderDown(f"{url} answered more than {ANSWER_MAX_BYTES} bytes")
        except httpx.HTTPError as error:
            raise ProviderDown(f"{url} does not answer: {error or type(error).__name__}") from error
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ProviderDown(f"{url} answered {answer.status_code} without a JSON object")
        return answer.status_code, found

    def _client(self) -> httpx.AsyncClient:
        try:
            trust = ssl.create_default_context(cafile=self._settings.oidc_ca_file)
        except OSError as error:
            raise ProviderDown(f"oidc_ca_file: {self._settings.oidc_ca_file}: {error}") from error
        return httpx.AsyncClient(timeout=TIMEOUT_S, verify=trust, follow_redirects=False)


def word(text: object) -> str:
    """A stranger's short word as it may be shown: https://www.rfc-editor.org/rfc/rfc6749#section-5.2."""
    return text if isinstance(text, str) and re.fullmatch(r"[a-z_]{1,40}", text) else "no reason that can be shown"


def _usable(document: dict[str, Any]) -> KeySet:
    """The keys for signatures that we can read: providers list others too."""
    listed = document.get("keys")
    found = []
    for key in listed if isinstance(listed, list) else []:
        if isinstance(key, dict) and key.get("kty") in {"RSA", "EC", "OKP"} and key.get("use", "sig") == "sig":
            try:
                found += KeySet.import_key_set({"keys": [key]}).keys
            except (JoseError, ValueError, TypeError, KeyError):
                continue  # of a kind that this library does not know: another key may do
    if not found:
        raise ProviderDown("its key set has no key that this server can use")
    return KeySet(found)


class _patience:  # noqa: N801 - used like a function
    """As asyncio.timeout, and what ends by it is ProviderDown."""

    def __init__(self) -> None:
        self._timeout = asyncio.timeout(TIMEOUT_S)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise ProviderDown(f"it took more than {TIMEOUT_S:.0f} s") from late
