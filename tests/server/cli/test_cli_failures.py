"""What `lefleet` says when it is used wrongly, and when what answers is no LeFleet server, or nothing does."""

import asyncio

import pytest

HTTPS = {"LEFLEET_URL": "https://x", "LEFLEET_TOKEN": "t"}


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello", 1, "no word of LeFleet's"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", 1, "answered 502 Bad Gateway"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n", 1, "elsewhere (http://other/)"),
        (
            b"HTTP/1.1 409 Conflict\r\nContent-Type: application/problem+json\r\nContent-Length: 30\r\n\r\n"
            b'{"detail": "no\\u001b[2J\\nway"}',
            1,
            "no\N{REPLACEMENT CHARACTER}[2J way",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", 4, "the connection broke"),
        (b"", 4, "the connection broke"),
    ],
)
async def test_what_is_no_lefleet_server_is_told_in_one_sentence(stranger, answer, status, said):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        done = await stranger(LEFLEET_URL=f"http://127.0.0.1:{port}", LEFLEET_TOKEN="lft_x")("robots", "list")
    assert done.status == status and said in done.err
    assert len(done.err.splitlines()) == 1 and "\x1b" not in done.err


async def test_a_server_that_is_not_there_is_exit_status_4(stranger, free_port):
    url = f"http://127.0.0.1:{free_port()}"
    done = await stranger(LEFLEET_URL=url, LEFLEET_TOKEN="lft_x")("robots", "list")
    assert done.status == 4
    assert done.err.startswith(f"{url}: cannot be reached")


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (["robots", "list"], {}, "lefleet login"),
        (["robots", "list", "--profile", "lab"], {}, "there are: none"),
        (["robots", "list"], {"LEFLEET_URL": "ftp://x", "LEFLEET_TOKEN": "t"}, "url: 'ftp://x'"),
        (["robots", "list"], {"LEFLEET_URL": "http://a:b@x", "LEFLEET_TOKEN": "t"}, "without a path, a user"),
        (["robots", "list"], {"LEFLEET_URL": "http://x", "LEFLEET_TOKEN_FILE": "/none"}, "/none: cannot be read"),
        (["robots", "list"], {**HTTPS, "LEFLEET_CA_FILE": "/none"}, "ca_file: /none"),
        (["login", "http://127.0.0.1:1"], {}, "--user"),
        (["login", "http://127.0.0.1:1", "--user", "ann"], {}, "--password-file"),
        (["episodes", "list", "--since", "yesterday"], {"LEFLEET_URL": "http://x", "LEFLEET_TOKEN": "t"}, "2h (ago"),
        (["episodes", "label", "success", "x"], {"LEFLEET_URL": "http://x", "LEFLEET_TOKEN": "t"}, "ID: 'x'"),
        (["emergency-stop"], {"LEFLEET_URL": "http://x", "LEFLEET_TOKEN": "t"}, "--all"),
    ],
)  # fmt: skip
async def test_wrong_use_is_exit_status_2_with_the_remedy(stranger, words, environment, said):
    done = await stranger(**environment)(*words)
    assert done.status == 2
    assert said in " ".join(done.err.replace("│", "").split())


@pytest.mark.parametrize("spoil", ["mode", "yaml", "fields"])
async def test_a_spoilt_file_of_profiles_is_refused_and_not_quoted(stranger, spoil):
    us = stranger()
    us.profiles.parent.mkdir(parents=True)
    token = "lft_a-secret-token"
    text = {"yaml": f"profiles: [{token}", "fields": f"profiles: {{lab: {{address: http://x, token: {token}}}}}"}
    us.profiles.write_text(text.get(spoil, f"current: lab\nprofiles: {{lab: {{url: http://x, token: {token}}}}}"))
    us.profiles.chmod(0o644 if spoil == "mode" else 0o600)
    done = await us("robots", "list")
    assert done.status == 2 and str(us.profiles) in done.err and token not in done.err
    assert ("chmod 600" in done.err) == (spoil == "mode")
