"""A real S3 server in a process of its own, and a proxy before it that can fail as networks and stores do."""

import asyncio
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

BUCKET, KEY, SECRET = "lefleet", "lefleet-tests", "a-secret-of-the-tests"


class S3Server:
    """nanio on a folder: each object is a plain file in it, so what was stored can be looked at and outlives a kill."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.credentials = folder / "credentials.yml"
        self._process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def files(self, prefix: str, part: str) -> Path:
        """The folder with the objects of one test's `blobs` or `incoming`."""
        return self.folder / "data" / BUCKET / prefix / part

    def age(self, path: Path) -> None:
        """Makes an object as old as can be: nanio then takes its time from the file, not from the note beside it."""
        bucket = self.folder / "data" / BUCKET
        for note in bucket.glob(f".*/**/{path.name}.json"):
            note.unlink()
        os.utime(path, (0, 0))

    def settings(self, prefix: str, address: str | None = None) -> dict:
        return {
            "store_url": f"s3://{BUCKET}/{prefix}",
            "store_endpoint": address or self.address,
            "store_region": "us-east-1",
            "store_credentials_file": str(self.credentials),
        }

    def start(self) -> None:
        (self.folder / "data" / BUCKET).mkdir(parents=True, exist_ok=True)
        self.credentials.write_text(f"access_key_id: {KEY}\nsecret_access_key: {SECRET}\n")
        command = [sys.executable, "-m", "nanio", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--data-dir", str(self.folder / "data"), "--no-access-log", "--log-level", "error"]
        keys = {"NANIO_ACCESS_KEY": KEY, "NANIO_SECRET_KEY": SECRET}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=os.environ | keys, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.1)

    def kill(self) -> None:
        """As a power cut would: no goodbye."""
        assert self._process
        self._process.kill()
        self._process.wait(30)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.address, timeout=5).close()  # noqa: S310 - our own server
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


class Proxy:
    """Between a client and the S3 server: `pass`, `refuse` with 503 or `stall`, as `mode` says now."""

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
