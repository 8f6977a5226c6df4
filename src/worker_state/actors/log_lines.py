"""The log lines of connections, registrations and the status, each with its event's name and fields.

The first failure is loud, repeats are quiet and counted, a recovery is one line with the time that it took. Nothing is
decided here. No secret comes in but the session string, which clients need.
"""

import logging

from worker_state import redact
from worker_state.logs import Logger, event, ever_more_rarely
from worker_state.protocol import error_policy
from worker_state.session_string import SessionString

log: Logger = Logger(__name__)

SIGN_IN, ROOM_CREATION = "sign-in", "room creation"  # the HTTP calls that are tried again
CALL_FIELDS = {SIGN_IN: "sign_in", ROOM_CREATION: "room_creation"}


class Dials:
    """Lines of the connection actor: on lost links, and on dials until there is a link again."""

    def __init__(self, *, once: bool = False) -> None:
        self.once = once  # no dial follows any trouble: the start fails with it
        self._failures = 0  # dials in a row that gave no link

    def lost(self, epoch: int, closed: error_policy.Closed, pause: float) -> None:
        """A link has ended; the next dial begins in `pause` seconds."""
        then, text = (None, "") if self.once else (pause, f"; dialling again in {pause:.1f} s")
        about = event("connection_lost", epoch=epoch, cause=closed.cause.name.lower(), code=closed.code, pause=then)
        log.warning("connection lost: %s%s", closed, text, extra=about)

    def failed(self, epoch: int, failure: error_policy.DialFailure, pause: float) -> None:
        """A dial gave no link; the next one begins in `pause` seconds."""
        self._failures = count = self._failures + 1
        # Now and then it is logged again, ever more rarely: long silence looks like a program that hangs.
        repeated = logging.INFO if count >= 16 and ever_more_rarely(count) else logging.DEBUG
        level = logging.WARNING if count == 1 else repeated
        then, text = (None, "") if self.once else (pause, f"; dial {count + 1} follows in {pause:.1f} s")
        about = event("dial_failed", epoch=epoch, cause=failure.cause.name.lower(), attempt=count, pause=then)
        log.log(level, "no connection: %s%s", failure, text, extra=about)

    def opened(self, epoch: int) -> None:
        """A dial gave a link."""
        if self._failures > 1:
            about = event("connected", epoch=epoch, attempt=self._failures + 1)
            log.info("connected again after %d failed dials", self._failures, extra=about)
        self._failures = 0

    def send_failed(self, epoch: int, kind: str, closed: error_policy.Closed) -> None:
        """A frame of this type, of the worker's other parts, could not be sent."""
        frame = redact.shown(kind)
        log.error("could not send %s: %s", frame, closed, extra=event("send_failed", epoch=epoch, frame=frame))


class Registrations:
    """Lines of the registration actor: on its registrations, and on the HTTP calls beside them."""

    def __init__(self, *, show_session_string: bool) -> None:
        self.started: bool = False  # the server has accepted this worker at least once
        self._show = show_session_string
        self._room = ""
        self._epoch = 0
        self._lost_at: float | None = None
        self._refusal: str | None = None
        self._failures = 0  # HTTP calls in a row
        self._unsent_logged = False

    def accepted(
        self, epoch: int, session: SessionString | None, room_id: str, now: float, *, given: str | None = None
    ) -> None:
        """The server has accepted a `register`; `session` is None when it is not known. `given`: the room
        of the configuration, which is another one where an API key names it."""
        downtime = 0.0 if self._lost_at is None else now - self._lost_at
        about = event("registered", epoch=epoch, attempt=max(1, epoch - self._epoch), downtime=downtime)
        if self.started:
            log.info("Worker re-registered with signaling server", extra=about)
        elif session is None or not self._show:
            log.info("worker registered in room %s", redact.shown(room_id), extra=about)
        else:
            log.info("worker registered, session string: %s", session, extra=about)
        if given is not None and given != room_id and room_id != self._room:
            room, given = redact.shown(room_id), redact.shown(given)
            text = "the API key is for the room %s, not for the one that was given, %s: clients find this worker there"
            log.warning(text, room, given, extra=event("other_room", room=room, given=given))
        if self.started and room_id != self._room:
            about = event("session_string_changed", room=redact.shown(room_id))
            new = f", the new one is: {session}" if self._show and session is not None else ": the room is a new one"
            log.warning("the old session string is of no use any more%s", new, extra=about)
        self.started, self._room, self._epoch = True, room_id, epoch
        self._lost_at = self._refusal = None
        self._unsent_logged = False

    def lost(self, now: float) -> None:
        """There is no registration any more; whatever noticed it has logged why."""
        if self.started and self._lost_at is None:
            self._lost_at = now

    def refused(self, reason: str) -> None:
        """The server has refused a `register`: logged once for each reason, until one is accepted."""
        if reason != self._refusal:
            self._refusal = reason
            # The next tries are silent, so this line may be all that the log has for hours.
            more = "; it is tried again until it is accepted" if self.started else ""
            about = event("registration_refused", reason=reason)
            log.error("registration refused: %s%s", reason, more, extra=about)

    def renewing(self, what: str, reason: str, pause: float) -> None:
        """A credential is of no use any more; a new one is fetched in `pause` seconds."""
        about = event("credential_refused", credential=what, reason=reason, pause=pause)
        log.warning("the %s of this worker is of no use any more (%s): creating a new one", what, reason, extra=about)

    def evicted(self, why: str, pause: float, in_an_hour: int, many: int) -> None:
        """The server knows this worker no longer, or is silent; it registers again in `pause` seconds."""
        about = event("evicted", reason=why, pause=pause, in_an_hour=in_an_hour)
        log.warning("%s: registering again", why, extra=about)
        if in_an_hour == many:
            text = (
                "forgotten %d times within an hour: somebody else may be using this worker's identity, or evicting it; "
                "registering again ever more slowly"
            )
            log.error(text, in_an_hour, extra=event("evicted_often", in_an_hour=in_an_hour))

    def postponed(self) -> None:
        """`reregister` without a link."""
        text = "cannot register again just now, there is no link: it is done as soon as there is one"
        log.error(text, extra=event("registration_postponed"))
        self._unsent_logged = True

    def unsent(self, epoch: int, status: str) -> None:
        """The link was lost before a `register` was answered: logged once, until one is accepted."""
        if self.started and not self._unsent_logged:
            self._unsent_logged = True
            about = event("send_failed", epoch=epoch, frame="register", status=status)
            log.error("could not register again, the connection was lost: it is done on the next one", extra=about)

    def swallowed(self, epoch: int) -> None:
        """The server answers what was sent behind a `register`, and not that."""
        text = "the server has swallowed a register, it answers what came after it: registering again"
        log.warning(text, extra=event("register_swallowed", epoch=epoch))

    def call_failed(self, call: str, why: str) -> None:
        """This HTTP call has failed; it is tried again."""
        self._failures += 1
        level = logging.ERROR if self._failures == 1 else logging.DEBUG
        about = event("http_failed", call=CALL_FIELDS[call], reason=why, attempt=self._failures)
        log.log(level, "%s failed: %s", call, why, extra=about)

    def call_succeeded(self, call: str) -> None:
        """This HTTP call has succeeded. The first ones are part of the start, which has its own line."""
        if self._failures:
            about = event("http_recovered", call=CALL_FIELDS[call], attempt=self._failures + 1)
            log.info("%s has succeeded at attempt %d", call, self._failures + 1, extra=about)
        elif self.started:
            text = "the ID token was renewed" if call == SIGN_IN else "a new room was created"
            log.info(text, extra=event("renewed", call=CALL_FIELDS[call]))
        self._failures = 0


def frame(direction: str, epoch: int, text: str | bytes, secrets: redact.Secrets) -> None:
    """A frame was sent or received. At DEBUG, for those who want to see everything."""
    if log.isEnabledFor(logging.DEBUG):
        about = event("frame", direction=direction, epoch=epoch)
        log.debug("%s %s", direction, redact.shown_frame(text, secrets), extra=about)


def status_postponed(status: str, why: str) -> None:
    """The status could not be sent, or nobody has confirmed it."""
    about = event("status_postponed", status=status)
    log.error("status %s cannot be sent, %s: the next registration carries it", status, why, extra=about)


def record_repaired(differences: tuple[str, ...], *, forged: bool) -> None:
    """The server has stored something else than what is true."""
    what = "somebody has changed" if forged else "the server does not keep"
    about = event("record_repaired", fields=",".join(differences), forged=forged)
    log.warning("%s this worker's record (%s): repairing it", what, ", ".join(differences), extra=about)


def peer_id_shared(peer_id: str) -> None:
    """Another worker of the room has registered under this worker's peer id."""
    name = redact.shown(peer_id)
    text = "another worker uses this worker's peer id, %s, and each evicts the other: give each a peer id of its own"
    log.error(text, name, extra=event("peer_id_shared", peer_id=name))


def reservation_over(limit: float | None) -> None:
    """A reservation has lasted for as long as one may, in seconds."""
    about = event("reservation_over", limit=limit)
    log.warning("reserved for %g s and no job has begun: available again", limit, extra=about)


def woken(stopped: float) -> None:
    """This process, or the whole machine, stood still for so many seconds."""
    text = "this process stood still for %.0f s: proving at once that the worker is discoverable"
    log.info(text, stopped, extra=event("woken", stopped=stopped))


def echoes(*, refused: bool) -> None:
    """The server does not hand on messages to oneself, or does so after all."""
    if refused:
        text = "the server refuses messages to oneself: its answers to updates have to do as proof"
        log.warning(text, extra=event("echo_refused"))
    else:
        log.info("the server hands on messages to oneself again: they are the proof", extra=event("echo_taken"))
