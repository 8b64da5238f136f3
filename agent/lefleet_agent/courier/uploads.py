"""Brings episodes to the server: resumable, one at a time, and done only with a receipt."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable

import structlog

from lefleet_agent.courier.api import Receipt, ServerApi
from lefleet_agent.courier.errors import Garbled, Rejected, Retryable, ServerError, UploadGone
from lefleet_agent.courier.gate import Gate
from lefleet_agent.courier.pace import Pieces
from lefleet_agent.spool import Spool, SpooledEpisode, SpoolError

log = structlog.get_logger()

MOST_GARBLED = 3
"""How often an episode's bytes may arrive as others, while its file here is right, before it counts as refused."""


class Uploader:
    """Empties the spool in its order. `counted` is told (bytes, result) for each request."""

    def __init__(
        self, api: ServerApi, spool: Spool, pieces: Pieces, gate: Gate, counted: Callable[[int, str], None]
    ) -> None:
        self._api = api
        self._spool = spool
        self._pieces = pieces
        self._gate = gate
        self._counted = counted
        self._failed: set[str] = set()
        self._furthest: dict[str, int] = {}
        """Bytes that the server had at most of an episode that is not delivered yet."""
        self._garbled: Counter[str] = Counter()

    def step(self) -> bool:
        """Deliver the next episode; False when none waits, or the courier ends. Raises ServerError, SpoolError."""
        episode = self._spool.next_waiting(skip=self._failed)
        if episode is None and self._failed:
            self._failed.clear()
            episode = self._spool.next_waiting()
        if episode is None:
            self._furthest.clear()
            return False
        before = self._furthest.get(episode.episode_id, 0)
        try:
            return self._deliver(episode)
        except (ServerError, SpoolError):
            # One that fails goes to the end of the line: whatever is wrong with it must not hold up the rest. But a
            # link that is cut again and again is not its fault: it keeps its turn as long as it gets on.
            if self._furthest.get(episode.episode_id, 0) <= before:
                self._failed.add(episode.episode_id)
            raise

    def _deliver(self, episode: SpooledEpisode) -> bool:
        """False when the courier ends first."""
        try:
            try:
                receipt = self._api.receipt(episode.sha256) or self._send(episode)
            except Rejected as error:
                self._refused(episode, error)
                return True
        except OSError as error:
            if not self._spool.write_off(episode.episode_id):
                raise Retryable(f"{episode.path}: {error.strerror}; look whether its disk is there") from error
            return True
        if receipt is None:
            return False
        self._spool.acknowledge(episode.episode_id, receipt.as_dict())
        self._furthest.pop(episode.episode_id, None)
        self._garbled.pop(episode.episode_id, None)
        log.info("episode delivered", episode=episode.episode_id, bytes=episode.bytes, receipt=receipt.receipt_id)
        return True

    def _send(self, episode: SpooledEpisode) -> Receipt | None:
        """None when the courier ends first."""
        there = episode.path.stat().st_size
        if there != episode.bytes:
            raise Rejected(f"{episode.path.name} has {there} bytes, {episode.bytes} were recorded")
        try:
            whole = self._send_bytes(episode)
        except UploadGone as error:  # the server was restored, or cleared it away: from the start
            log.warning("the server lost a partial upload", episode=episode.episode_id, error=str(error))
            self._furthest.pop(episode.episode_id, None)
            whole = self._send_bytes(episode)
        return self._receipt(episode) if whole else None

    def _send_bytes(self, episode: SpooledEpisode) -> bool:
        """All that the server lacks; False when the courier ends first."""
        # The server gives an unfinished upload of the same bytes back, so nothing about it is kept here.
        url = self._api.create_upload(episode.bytes, episode.sha256, episode.episode_id)
        offset = self._api.upload_offset(url)
        self._reached(episode, offset)  # what arrived of a piece that was cut counts too
        while offset < episode.bytes:
            length = self._pieces.next(episode.bytes - offset)
            if not self._gate.wait(length):
                return False
            offset = self._send_piece(episode, url, offset, length)
        return True

    def _send_piece(self, episode: SpooledEpisode, url: str, offset: int, length: int) -> int:
        """The new offset, which is always a higher one."""
        begun_s = time.monotonic()
        try:
            reached = self._api.send_bytes(url, episode.path, offset, length)
        except Retryable:
            self._pieces.failed()
            raise
        if not offset < reached <= episode.bytes:
            raise Retryable(f"{url}: took {length} bytes at {offset} of {episode.bytes}, and says it has {reached}")
        self._pieces.took(length, time.monotonic() - begun_s)
        self._counted(length, "sent")
        self._reached(episode, reached)
        return reached

    def _reached(self, episode: SpooledEpisode, offset: int) -> None:
        self._furthest[episode.episode_id] = max(offset, self._furthest.get(episode.episode_id, 0))

    def _receipt(self, episode: SpooledEpisode) -> Receipt:
        receipt = self._api.receipt(episode.sha256)
        if receipt is None or receipt.sha256 != episode.sha256:
            raise Retryable(f"the server took all {episode.bytes} bytes of {episode.path.name} but gives no receipt")
        return receipt

    def _refused(self, episode: SpooledEpisode, error: Rejected) -> None:
        """Keep the file and say why: it is evidence, and it may be somebody's hour of work.

        Raises Retryable where its bytes changed on their way, or at the server, and another try may bring them.
        """
        reason = str(error)
        with episode.path.open("rb") as file:
            now = hashlib.file_digest(file, "sha256").hexdigest()
        if now != episode.sha256:
            reason = f"the file changed on this disk since it was recorded (now {now[:12]}): {reason}"
        elif isinstance(error, Garbled):
            self._garbled[episode.episode_id] += 1
            if self._garbled[episode.episode_id] < MOST_GARBLED:
                raise Retryable(f"{episode.path.name} is as it was recorded, and arrived otherwise: {reason}")
            reason = f"it arrived otherwise {MOST_GARBLED} times, and is as it was recorded: {reason}"
        self._garbled.pop(episode.episode_id, None)
        self._counted(episode.bytes, "refused")
        self._spool.refuse(episode.episode_id, reason)
        log.error("episode refused, kept on this robot", episode=episode.episode_id, reason=reason)
