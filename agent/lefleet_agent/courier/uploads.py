"""Brings episodes to the server: resumable, one at a time, and done only with a receipt."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import structlog

from lefleet_agent.courier.api import Receipt, Rejected, ServerApi, UploadGone
from lefleet_agent.spool import Spool, SpooledEpisode

log = structlog.get_logger()


class Uploader:
    """Empties the spool in its order. `counted` is told (bytes, result) for each request."""

    def __init__(
        self,
        api: ServerApi,
        spool: Spool,
        state_dir: Path,
        chunk_bytes: int,
        budget_bytes: int,
        counted: Callable[[int, str], None],
    ) -> None:
        self._api = api
        self._spool = spool
        self._resume = ResumeFile(state_dir / "upload.json")
        self._chunk_bytes = chunk_bytes
        self._budget_bytes = budget_bytes
        self._counted = counted

    def step(self) -> bool:
        """Deliver the next episode; False when none waits. Raises Retryable, Unauthorised."""
        episode = self._spool.next_waiting()
        if episode is None:
            self._spool.free_to_budget(self._budget_bytes)
            return False
        try:
            receipt = self._api.receipt(episode.sha256) or self._send(episode)
        except Rejected as error:
            self._refused(episode, str(error))
            return True
        self._spool.acknowledge(episode.episode_id, receipt.as_dict())
        self._resume.forget()
        log.info("episode delivered", episode=episode.episode_id, bytes=episode.bytes, receipt=receipt.receipt_id)
        self._spool.free_to_budget(self._budget_bytes)
        return True

    def _send(self, episode: SpooledEpisode) -> Receipt:
        url, offset = self._begin_or_resume(episode)
        while offset < episode.bytes:
            length = min(self._chunk_bytes, episode.bytes - offset)
            offset = self._api.send_bytes(url, episode.path, offset, length)
            self._counted(length, "sent")
        receipt = self._api.receipt(episode.sha256)
        if receipt is None or receipt.sha256 != episode.sha256:
            raise Rejected(f"the server took all {episode.bytes} bytes of {episode.path.name} but gives no receipt")
        return receipt

    def _begin_or_resume(self, episode: SpooledEpisode) -> tuple[str, int]:
        url = self._resume.url_of(episode.sha256)
        if url:
            try:
                return url, self._api.upload_offset(url)
            except UploadGone:
                log.info("partial upload is gone, beginning again", episode=episode.episode_id)
        url = self._api.create_upload(episode.bytes, episode.sha256, episode.episode_id)
        self._resume.remember(episode.sha256, url)
        return url, 0

    def _refused(self, episode: SpooledEpisode, reason: str) -> None:
        """Keep the file and say why: it is evidence, and it may be somebody's hour of work."""
        self._resume.forget()
        with episode.path.open("rb") as file:
            now = hashlib.file_digest(file, "sha256").hexdigest()
        if now != episode.sha256:
            reason = f"the file changed on this disk since it was recorded (now {now[:12]}): {reason}"
        self._counted(episode.bytes, "refused")
        self._spool.refuse(episode.episode_id, reason)
        log.error("episode refused, kept on this robot", episode=episode.episode_id, reason=reason)


class ResumeFile:
    """Where the one running upload goes on after a restart. Losing it costs only a repeated upload."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def url_of(self, sha256: str) -> str | None:
        try:
            values = json.loads(self._path.read_text())
            return str(values["url"]) if values["sha256"] == sha256 else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def remember(self, sha256: str, url: str) -> None:
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps({"sha256": sha256, "url": url}))
        part.rename(self._path)

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)
