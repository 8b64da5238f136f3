"""How the server was not satisfied: each kind says what the caller does next."""


class ServerError(Exception):
    """The server was not satisfied, or not there."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """The pause that the server asked for."""


class Retryable(ServerError):  # noqa: N818 - named by what to do
    """Unreachable, overloaded or restarting: the same request may succeed later."""


class Rejected(ServerError):  # noqa: N818
    """The server will never accept this; the message is its reason."""


class Garbled(Rejected):
    """Other bytes arrived than were announced: the file here is another one now, or they changed after it was read."""


class Unauthorised(ServerError):  # noqa: N818
    """The credential is unknown or revoked: enrol again."""


class UploadGone(ServerError):  # noqa: N818
    """The partial upload is not there any more: begin a new one."""
