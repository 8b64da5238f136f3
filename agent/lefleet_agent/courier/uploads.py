"""Brings episodes to the server: resumable, one at a time, and done only with a receipt."""

import hashlib
from collections.abc import Callable

import structlog

from lefleet_agent.courier.api import Receipt, Rejected, Retryable, ServerApi
from lefleet_agent.spool import Spool, SpooledEpisode

log = structlog.get_logger()


class Uploader:
    """Empties the spool in its order. `counted` is told (bytes, result) for each request."""

    def __init__(
        self,
        api: ServerApi,
        spool: Spool,
        chunk_bytes: int,
        budget_bytes: int,
        counted: Callable[[int, str], None],
    ) -> None:
        self._api = api
        self._spool = spool
        self._chunk_bytes = chunk_bytes
        self._budget_bytes = budget_bytes
        self._counted = counted
        self._failed: set[str] = set()

    def step(self) -> bool:
        """Deliver the next episode; False when none waits. Raises Retryable, Unauthorised, UploadGone."""
        self._spool.free_to_budget(self._budget_bytes)
        episode = self._spool.next_waiting(skip=self._failed)
        if episode is None:
            self._failed.clear()
            return False
        # One that fails goes to the end of the line: whatever is wrong with it must not hold up the rest.
        self._failed.add(episode.episode_id)
        try:
            receipt = self._api.receipt(episode.sha256) or self._send(episode)
        except Rejected as error:
            self._refused(episode, str(error))
        else:
            self._spool.acknowledge(episode.episode_id, receipt.as_dict())
            log.info("episode delivered", episode=episode.episode_id, bytes=episode.bytes, receipt=receipt.receipt_id)
        self._failed.discard(episode.episode_id)
        return True

    def _send(self, episode: SpooledEpisode) -> Receipt:
        # The server gives an unfinished upload of the same bytes back, so nothing about it is kept here.
        url = self._api.create_upload(episode.bytes, episode.sha256, episode.episode_id)
        offset = self._api.upload_offset(url)
        while offset < episode.bytes:
            length = min(self._chunk_bytes, episode.bytes - offset)
            offset = self._api.send_bytes(url, episode.path, offset, length)
            self._counted(length, "sent")
        receipt = self._api.receipt(episode.sha256)
        if receipt is None or receipt.sha256 != episode.sha256:
            raise Retryable(f"the server took all {episode.bytes} bytes of {episode.path.name} but gives no receipt")
        return receipt

    def _refused(self, episode: SpooledEpisode, reason: str) -> None:
        """Keep the file and say why: it is evidence, and it may be somebody's hour of work."""
        with episode.path.open("rb") as file:
            now = hashlib.file_digest(file, "sha256").hexdigest()
        if now != episode.sha256:
            reason = f"the file changed on this disk since it was recorded (now {now[:12]}): {reason}"
        self._counted(episode.bytes, "refused")
        self._spool.refuse(episode.episode_id, reason)
        log.error("episode refused, kept on this robot", episode=episode.episode_id, reason=reason)
