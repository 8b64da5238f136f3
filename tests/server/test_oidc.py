"""Log-in by OpenID Connect against a real provider in a process of its own, and against one that cheats."""

import asyncio
import json
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import select

from lefleet_server.accounts import identities
from lefleet_server.accounts import service as accounts
from lefleet_server.accounts.attempt import Attempt, own_path
from lefleet_server.accounts.identities import role_of
from lefleet_server.accounts.models import LoginFailure, ProviderIdentity, Role, User
from lefleet_server.app import create_app
from lefleet_server.audit.models import AuditEntry
from lefleet_server.config import ConfigError, Settings, load

API = "/api/v1"
BEGIN = f"{API}/login/oidc"
SECRET = "a client secret / with: signs"


@pytest.fixture
async def between(oidc, oidc_provider, free_port, run_app):
    port = free_port()
    made = oidc.Between(oidc_provider.url, f"http://127.0.0.1:{port}")
    await asyncio.to_thread(run_app, made, port)
    return made


@pytest.fixture
def wanted() -> dict:
    """Settings beside the ones that every test has."""
    return {}


@pytest.fixture
def settings(server_settings, between, wanted, tmp_path) -> Settings:
    secret = tmp_path / "oidc-secret"
    secret.write_text(SECRET + "\n")
    given = {
        "oidc_issuer": between.url,
        "oidc_name": "Lab account",
        "oidc_client_id": "lefleet",
        "oidc_client_secret_file": secret,
    }
    return Settings(**server_settings | {"public_url": "http://server"} | given | wanted)


class Browser:
    """Somebody's browser at the server and at the provider."""

    def __init__(self, connect: Callable, between, sub: str) -> None:
        self.http = connect()
        self._between = between
        self.sub = sub

    async def begin(self, page: str = "/") -> str:
        """The provider's page, to which the server leads."""
        answer = await self.http.get(BEGIN, params={"next": page})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def prove(self, page: str) -> str:
        """Says who one is there; the way back, as a path."""
        async with httpx.AsyncClient() as http:
            answer = await http.post(page, data={"sub": self.sub})
        assert answer.status_code in {302, 303}, answer.text
        back = urlsplit(answer.headers["location"])
        assert f"{back.scheme}://{back.netloc}{back.path}" == f"http://server{BEGIN}/callback"
        return f"{back.path}?{back.query}"

    async def log_in(self, page: str = "/") -> httpx.Response:
        return await self.http.get(await self.prove(await self.begin(page)))

    async def note(self, answer: httpx.Response) -> str:
        """What the log-in page will say."""
        assert (answer.status_code, answer.headers["location"]) == (303, "/login"), answer.text
        assert "lefleet_session" not in answer.cookies
        from lefleet_server.accounts import login_note

        return login_note.read(dict(answer.cookies))

    async def me(self) -> dict | None:
        answer = await self.http.get(f"{API}/me")
        return answer.json() if answer.is_success else None


@pytest.fixture
async def browser(connect, between, oidc_provider) -> AsyncIterator[Callable]:
    made: list[Browser] = []

    async def make(sub: str, **claims: object) -> Browser:
        await asyncio.to_thread(oidc_provider.know, sub, **claims)
        made.append(Browser(connect, between, sub))
        return made[-1]

    yield make
    await asyncio.gather(*(each.http.aclose() for each in made))


@pytest.fixture
def bound(services, settings) -> Callable:
    async def make(name: str, sub: str, role: Role = Role.OPERATOR) -> None:
        async with services.db.transaction() as session:
            await accounts.put_user(session, name, role, None, "test")
            await identities.bind(session, name, settings.oidc_issuer, sub, "test")

    return make


async def test_a_bound_person_logs_in_comes_to_the_page_they_wanted_and_it_is_audited(browser, bound, services):
    await bound("ada", "sub-ada")
    ada = await browser("sub-ada", preferred_username="somebody else")
    answer = await ada.log_in("/episodes?robot=robot-1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/episodes?robot=robot-1")
    assert await ada.me() == {"username": "ada", "role": "operator"}
    cookie = answer.headers.get_list("set-cookie")[0].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie
    async with services.db.session() as session:
        entry = (await session.scalars(select(AuditEntry).where(AuditEntry.action == "user.logged-in"))).one()
        assert (entry.actor, entry.via, entry.detail) == ("user:ada", "oidc", {"how": "oidc"})
        assert not (await session.scalars(select(LoginFailure))).all()


async def test_the_question_to_the_provider_has_state_nonce_and_a_challenge_and_no_secret(browser, settings):
    someone = await browser("sub-x")
    first, second = await someone.begin(), await someone.begin()
    asked = [dict(parse_qsl(urlsplit(each).query)) for each in (first, second)]
    assert asked[0]["code_challenge_method"] == "S256" and asked[0]["response_type"] == "code"
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked[0][name]) == 43 and asked[0][name] != asked[1][name]
    cookie = someone.http.cookies["lefleet_oidc"]
    assert cookie.partition(".")[0] not in second and "client+secret" not in second


async def test_somebody_unknown_is_told_their_subject_and_gets_nothing(browser, services):
    someone = await browser("sub-unknown", preferred_username="ada")
    async with services.db.transaction() as session:
        await accounts.put_user(session, "ada", Role.ADMIN, None, "test")
    note = await someone.note(await someone.log_in())
    assert "sub-unknown" in note and "users bind" in note
    assert await someone.me() is None
    async with services.db.session() as session:
        assert [user.username for user in await session.scalars(select(User))] == ["ada"]


async def test_a_disabled_account_stays_disabled(browser, bound, services):
    await bound("ada", "sub-disabled")
    async with services.db.transaction() as session:
        await accounts.change_user(session, "ada", "test", disabled=True)
    ada = await browser("sub-disabled")
    assert "disabled" in await ada.note(await ada.log_in())
    assert await ada.me() is None


ROLES = {"oidc_create_accounts": True, "oidc_roles": {"robotics": "operator", "leads": "admin"}}


@pytest.mark.parametrize("wanted", [ROLES])
async def test_groups_give_the_role_at_each_log_in_and_who_is_in_none_any_more_is_out(browser, services, person):
    await person(Role.ADMIN)  # somebody else who administers
    eve = await browser("sub-eve", preferred_username="eve", groups=["robotics", "other", "leads"])
    assert (await eve.log_in()).headers["location"] == "/"
    assert await eve.me() == {"username": "eve", "role": "admin"}
    made = await eve.http.post(f"{API}/tokens", json={"name": "t", "scopes": ["read"]})
    token = {"Authorization": f"Bearer {made.raise_for_status().json()['token']}"}

    fewer = await browser("sub-eve", preferred_username="renamed", groups=["robotics"])
    await fewer.log_in()
    assert await fewer.me() == {"username": "eve", "role": "operator"}
    assert await eve.me() == {"username": "eve", "role": "operator"}, "in the older log-in, too"

    gone = await browser("sub-eve", groups=[])
    assert "groups" in await gone.note(await gone.log_in())
    assert await eve.me() is None and await fewer.me() is None
    assert (await eve.http.get(f"{API}/me", headers=token)).status_code == 401
    async with services.db.session() as session:
        assert (await session.scalars(select(User).where(User.username == "eve"))).one().role == "viewer"


@pytest.mark.parametrize("wanted", [ROLES])
async def test_the_last_administrator_is_not_demoted_by_the_provider(browser, services):
    root = await browser("sub-root", preferred_username="root", groups=["leads"])
    await root.log_in()
    again = await browser("sub-root", groups=["robotics"])
    assert "last administrator" in await again.note(await again.log_in())
    assert (await root.me())["role"] == "admin"


@pytest.mark.parametrize("wanted", [{"oidc_create_accounts": True}])
async def test_a_new_account_takes_no_name_that_somebody_has_and_none_that_cannot_be_one(browser, services):
    async with services.db.transaction() as session:
        await accounts.put_user(session, "ada", Role.ADMIN, None, "test")
    thief = await browser("sub-thief", preferred_username="ada")
    assert "not bound" in await thief.note(await thief.log_in())
    strange = await browser("sub-strange", preferred_username="<b>x</b>")
    assert "preferred_username" in await strange.note(await strange.log_in())
    new = await browser("sub-new", preferred_username="new")
    await new.log_in()
    assert await new.me() == {"username": "new", "role": "viewer"}
    async with services.db.session() as session:
        found = (await session.scalars(select(ProviderIdentity))).one()
    assert found.subject == "sub-new"


def signed(claims: dict, key: RSAKey) -> str:
    return jwt.encode({"alg": "RS256", "kid": "ours"}, claims, key)


def by_client_secret(claims: dict, key: RSAKey) -> str:
    from joserfc.jwk import OctKey

    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET + " " * 32), algorithms=["HS256"])


def unsigned(claims: dict, key: RSAKey) -> str:
    parts = [{"alg": "none"}, claims]
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def changed(claims: dict, key: RSAKey) -> str:
    """Somebody else's token, with this one's payload under its signature."""
    header, _, signature = signed(claims | {"sub": "sub-other"}, key).split(".")
    return f"{header}.{signed(claims, key).split('.')[1]}.{signature}"


CHEATS = {
    "another key": lambda c, key: signed(c, RSAKey.generate_key(2048, {"kid": "ours"})),
    "no signature": unsigned,
    "signed with the client secret": by_client_secret,
    "a changed payload": changed,
    "another nonce": lambda c, key: signed(c | {"nonce": "x" * 43}, key),
    "no nonce": lambda c, key: signed({name: c[name] for name in c if name != "nonce"}, key),
    "another issuer": lambda c, key: signed(c | {"iss": "http://127.0.0.1:1"}, key),
    "another audience": lambda c, key: signed(c | {"aud": ["another"]}, key),
    "made for another party": lambda c, key: signed(c | {"aud": ["lefleet", "another"], "azp": "another"}, key),
    "two audiences and no party": lambda c, key: signed(c | {"aud": ["lefleet", "another"]}, key),
    "expired": lambda c, key: signed(c | {"exp": int(time.time()) - 3600}, key),
    "no expiry": lambda c, key: signed({name: c[name] for name in c if name != "exp"}, key),
    "from the future": lambda c, key: signed(c | {"iat": int(time.time()) + 3600}, key),
    "a number as subject": lambda c, key: signed(c | {"sub": 5}, key),
    "no subject": lambda c, key: signed({name: c[name] for name in c if name != "sub"}, key),
    "no token": lambda c, key: "",
}


@pytest.mark.parametrize("cheat", CHEATS)
async def test_a_token_that_proves_nobody_lets_nobody_in(cheat, browser, bound, between, services):
    await bound("ada", "sub-victim")
    ada = await browser("sub-victim")
    between.spoil = CHEATS[cheat]
    answer = await ada.log_in()
    assert "begin again" in await ada.note(answer)
    assert await ada.me() is None
    async with services.db.session() as session:
        assert len((await session.scalars(select(LoginFailure))).all()) == 1


async def test_the_same_token_signed_right_is_taken_also_after_the_provider_changed_its_key(
    browser, bound, between, services, monkeypatch
):
    """What the cheats are made with is a good token otherwise."""
    await bound("ada", "sub-keys")
    ada = await browser("sub-keys")
    between.spoil = lambda c, key: signed(c | {"aud": ["lefleet"]}, key)
    assert (await ada.log_in()).headers["location"] == "/"
    between.key = between.keys_served = RSAKey.generate_key(2048, {"kid": "newer", "use": "sig"})
    between.spoil = lambda c, key: jwt.encode({"alg": "RS256", "kid": "newer"}, c, key)
    assert services.oidc._keys is not None
    services.oidc._keys = (services.oidc._keys[0] - 60, services.oidc._keys[1])
    assert (await ada.log_in()).headers["location"] == "/"


async def test_an_answer_counts_once_and_only_in_the_browser_that_asked(browser, bound):
    await bound("ada", "sub-replay")
    ada, mallory = await browser("sub-replay"), await browser("sub-mallory")
    back = await ada.prove(await ada.begin())
    await mallory.begin()
    assert "begun elsewhere" in await mallory.note(await mallory.http.get(back))
    saved = ada.http.cookies["lefleet_oidc"]
    assert (await ada.http.get(back)).headers["location"] == "/"
    again = await ada.http.get(back)
    assert "begun elsewhere" in await ada.note(again)
    stolen = await mallory.http.get(back, headers={"Cookie": f"lefleet_oidc={saved}"})
    assert "did not accept the code" in await mallory.note(stolen)
    assert await mallory.me() is None


async def test_a_code_is_of_no_use_without_the_verifier(browser, bound, between):
    await bound("ada", "sub-pkce")
    ada, thief = await browser("sub-pkce"), await browser("sub-thief")
    code = parse_qs(urlsplit(await ada.prove(await ada.begin())).query)["code"][0]
    page = await thief.begin()
    state = parse_qs(urlsplit(page).query)["state"][0]
    answer = await thief.http.get(f"{BEGIN}/callback", params={"code": code, "state": state})
    assert "did not accept the code" in await thief.note(answer)


async def test_without_the_provider_the_page_says_so_and_links_work(browser, bound, between, person, anonymous):
    between.down = True
    someone = await browser("sub-down")
    note = await someone.note(await someone.http.get(BEGIN))
    assert "Lab account cannot be used now" in note and "503" in note and "Passwords and log-in links work" in note
    assert (await (await person()).get(f"{API}/me")).is_success
    between.down = False
    back = await someone.prove(await someone.begin())
    between.down = True
    assert "cannot be used now" in await someone.note(await someone.http.get(back))


@pytest.mark.parametrize("wanted", [{"login_attempts": 3}])
async def test_guessed_codes_are_throttled(browser, wanted):
    someone = await browser("sub-guess")
    notes = []
    for _ in range(5):
        state = parse_qs(urlsplit(await someone.begin()).query)["state"][0]
        answer = await someone.http.get(f"{BEGIN}/callback", params={"code": "guess", "state": state})
        notes.append(await someone.note(answer))
    assert ["too many" in note.lower() for note in notes] == [False, False, False, True, True]


async def test_a_refusal_of_the_provider_is_told_without_its_words(browser):
    someone = await browser("sub-no")
    for error, said in (("access_denied", "access_denied"), ("<script>", "no reason that can be shown")):
        state = parse_qs(urlsplit(await someone.begin()).query)["state"][0]
        answer = await someone.http.get(f"{BEGIN}/callback", params={"error": error, "state": state})
        assert said in await someone.note(answer)


async def test_another_issuers_answer_and_documents_are_refused(browser, between, services):
    someone = await browser("sub-iss")
    state = parse_qs(urlsplit(await someone.begin()).query)["state"][0]
    answer = await someone.http.get(f"{BEGIN}/callback", params={"code": "x", "state": state, "iss": "http://other"})
    assert "another provider" in (await someone.note(answer)).lower()
    services.oidc._metadata = None
    between.documents["/.well-known/openid-configuration"] = {"issuer": "http://other"}
    assert "oidc_issuer must say the same" in await someone.note(await someone.http.get(BEGIN))
    endpoints = {"issuer": between.url, "authorization_endpoint": "http://example.org/authorize"}
    between.documents["/.well-known/openid-configuration"] = endpoints
    services.oidc._metadata = None
    assert "authorization_endpoint" in await someone.note(await someone.http.get(BEGIN))


async def test_a_server_without_a_provider_has_no_such_log_in(server_settings):
    app = create_app(Settings(**server_settings), dashboard=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
        for path in (BEGIN, f"{BEGIN}/callback"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("target", "page"),
    [
        ("/episodes?robot=a#x", "/episodes?robot=a#x"),
        ("//example.org", "/"),
        ("/\\example.org", "/"),
        ("https://example.org/", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/example.org", "/"),
        ("episodes", "/"),
        ("", "/"),
        ("/" + "x" * 3000, "/"),
        ("http://[", "/"),
    ],
)
def test_a_log_in_leads_to_no_other_site(target, page):
    assert own_path(target) == page
    assert Attempt.from_cookie(Attempt("s" * 43, target).cookie()).target == page


@pytest.mark.parametrize("text", ["", ".", "x", "x.y", "s" * 43 + ".ÿ", "s" * 44 + ".Lw"])
def test_a_cookie_that_is_no_attempt_is_none(text):
    assert Attempt.from_cookie(text) is None or Attempt.from_cookie(text).target == "/"


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["robotics"], "operator"),
        (["robotics", "leads"], "admin"),
        ("leads", "admin"),
        ([], None),
        (None, None),
        ([5], None),
    ],
)
def test_the_highest_role_of_the_groups_counts(groups, role):
    settings = SimpleNamespace(oidc_groups_claim="groups", oidc_roles={"robotics": Role.OPERATOR, "leads": Role.ADMIN})
    assert role_of(settings, {"groups": groups}) == role


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("oidc_issuer: http://id.example.org\noidc_client_id: x", "must begin with https://"),
        ("oidc_issuer: https://id.example.org", "needs oidc_client_id"),
        ("oidc_client_id: x", "without oidc_issuer"),
        ("oidc_issuer: https://i\noidc_client_id: x\noidc_scopes: [profile]", "no openid"),
        ("oidc_issuer: https://i\noidc_client_id: x\noidc_roles: {a: boss}", "oidc_roles.a"),
        ("oidc_issuer: https://i\noidc_client_id: x\noidc_client_secret_file: /none", "/none: cannot be read"),
        (
            "oidc_issuer: https://i\noidc_client_id: x\noidc_client_secret_file: f\noidc_client_secret: hidden",
            "not both",
        ),
    ],
)
def test_wrong_settings_are_named(text, said, tmp_path: Path):
    path = tmp_path / "server.yml"
    path.write_text(f"state_dir: s\n{text}\n")
    with pytest.raises(ConfigError) as failure:
        load(path, {})
    assert said in str(failure.value) and "hidden" not in str(failure.value)


def test_an_account_is_bound_and_unbound_on_the_server(server_settings, tmp_path: Path, server_cli, server_config):
    import yaml

    values = server_settings | {"oidc_issuer": "https://id.example.org", "oidc_client_id": "lefleet"}
    server_config.write_text(yaml.safe_dump(values))
    for name in ("ada", "eve"):
        server_cli("users", "add", name)
    bind = ("users", "bind", "ada", "--subject", "s-1", "--json")
    assert [json.loads(server_cli(*bind))["changed"] for _ in range(2)] == [True, False]
    command = [sys.executable, "-m", "lefleet_server", "users", "bind", "eve", "--subject", "s-1"]
    refused = subprocess.run([*command, "--config", server_config], capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "users unbind ada" in refused.stderr
    assert json.loads(server_cli("users", "unbind", "ada", "--json"))["unbound"] == 1
    said = [json.loads(line)["action"] for line in server_cli("audit", "--json", "--actor", "console").splitlines()]
    assert "user.bound" in said and "user.unbound" in said
