"""One robot's uploads over a plain socket, so that the client costs little beside the server it measures.

Started as a process: prints `ready`, waits for a line on standard input, uploads, prints when it began and ended.
"""

import base64
import json
import sys
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

TUS = {"Tus-Resumable": "1.0.0"}


@dataclass(frozen=True, slots=True)
class Client:
    connection: HTTPConnection
    token: str

    def put(self, file: dict[str, Any]) -> None:
        """Plain nginx."""
        self._send("PUT", f"/{Path(file['path']).name}", {}, file, 0, file["bytes"], {201, 204})

    def tus(self, file: dict[str, Any], piece_bytes: int) -> None:
        """As the courier does: announce, send the pieces, fetch the receipt."""
        keys = {name: base64.b64encode(file[name].encode()).decode() for name in ("sha256", "episode_id")}
        announcement = TUS | self._bearer() | {
            "Upload-Length": str(file["bytes"]),
            "Upload-Metadata": ",".join(f"{name} {value}" for name, value in keys.items()),
        }  # fmt: skip
        self.connection.request("POST", "/api/v1/robot/uploads", headers=announcement)
        place = str(self._answer({201}).getheader("Location"))
        for offset in range(0, file["bytes"], piece_bytes):
            length = min(piece_bytes, file["bytes"] - offset)
            about = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
            self._send("PATCH", place, TUS | self._bearer() | about, file, offset, length, {204})
        self.connection.request("GET", f"/api/v1/robot/receipts/{file['sha256']}", headers=self._bearer())
        receipt = json.loads(self._answer({200}, keep=True))
        if receipt["sha256"] != file["sha256"] or receipt["bytes"] != file["bytes"]:
            raise SystemExit(f"the receipt {receipt} is not for {file}")

    def _send(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        file: dict[str, Any],
        offset: int,
        length: int,
        good: set[int],
    ) -> None:
        self.connection.putrequest(method, url, skip_accept_encoding=True)
        for name, value in (headers | {"Content-Length": str(length)}).items():
            self.connection.putheader(name, value)
        self.connection.endheaders()
        with Path(file["path"]).open("rb") as body:
            self.connection.sock.sendfile(body, offset, length)
        self._answer(good)

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _answer(self, good: set[int], keep: bool = False) -> Any:
        answer: HTTPResponse = self.connection.getresponse()
        body = answer.read()
        if answer.status not in good:
            raise SystemExit(f"the server answered {answer.status}: {body[:300]!r}")
        return body if keep else answer


def main() -> None:
    job = json.loads(sys.argv[1])
    client = Client(HTTPConnection("127.0.0.1", job["port"], timeout=120), job["token"])
    print("ready", flush=True)
    sys.stdin.readline()
    begun_s = time.monotonic()
    for file in job["files"]:
        if job["piece_bytes"]:
            client.tus(file, job["piece_bytes"])
        else:
            client.put(file)
    print(json.dumps({"begun_s": begun_s, "ended_s": time.monotonic()}), flush=True)


if __name__ == "__main__":
    main()
