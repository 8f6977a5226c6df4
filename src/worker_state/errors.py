"""The exceptions that this package raises on purpose. None carries a token: they end up in logs and on terminals."""

from worker_state.redact import looks_redacted


class WorkerStateError(Exception):
    """The base of every error that this package raises on purpose."""


class ConfigError(WorkerStateError, ValueError):
    """A `Config` (or `Timing`) was refused; the text is a sentence that names the field. It goes without what looks
    like a secret: people put keys into wrong places.

    >>> from worker_state import Config
    >>> Config("https://signaling.example.org", "https://signaling.example.org")
    Traceback (most recent call last):
    worker_state.errors.ConfigError: websocket_url must begin with ws:// or wss://, not 'https://'
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(looks_redacted(sentence))


class SessionStringError(WorkerStateError, ValueError):
    """A session string could not be read; the text says what is wrong without repeating it.

    >>> from worker_state import SessionString
    >>> SessionString.parse("1a2b3c4d")
    Traceback (most recent call last):
    worker_state.errors.SessionStringError: a session string begins with 'sleap-session:'
    """


class StartupFailed(WorkerStateError):
    """The worker cannot start; raised before `nursery.start(run_state_manager, …)` returns.

    `reason`: what the server or the network said. `status`: of the HTTP answer, if there was one.
    """

    def __init__(self, text: str, reason: str = "", status: int | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.status = status


class ServerUnreachable(StartupFailed):
    """No connection to the WebSocket server lasted until the worker was registered; the text says why."""


class SignInFailed(StartupFailed):
    """`POST /anonymous-signin` gave no identity; the text says why."""


class RoomCreationFailed(StartupFailed):
    """`POST /create-room` gave no room; the text carries the HTTP status and the response text."""


class RegistrationRefused(StartupFailed):
    """The server refused the first registration for a reason that no further try mends (a wrong room, say)."""


class ObservationFailed(WorkerStateError):
    """A room cannot be watched: the server is not there, or does not let us in; the text says which."""


class Disconnected(WorkerStateError):
    """A signal could not be sent because there is no registered link just now."""


class ManagerEnded(Disconnected):
    """A manager was called, or waited for, that has ended: its block or its task is over. What sends a last signal
    meets it like any other `Disconnected`. For a tenth of a second after the end, plain calls of trio's manager do
    nothing instead: the task that makes them is mostly being cancelled."""


class JobCancelled(WorkerStateError):
    """A handler that runs in a thread has called for a job that nobody wants any more."""
