"""The registration actor: owns the identity, the room and the registration. It decides; it does no I/O.

It signs in, creates or joins the room, registers on every link, registers again when asked or when the server has
forgotten the worker, and renews what runs out. The peer id stays the same for the life of the process; only the ID
token behind it is renewed. What a refusal means stands in `protocol/error_policy.py`.
"""

import math
from collections.abc import Callable
from random import Random
from uuid import UUID

from worker_state.actors import log_lines
from worker_state.actors.runner import PureActor
from worker_state.config import Config
from worker_state.errors import RegistrationRefused, RoomCreationFailed, ServerUnreachable, SignInFailed, StartupFailed
from worker_state.protocol import error_policy, events, frames
from worker_state.protocol.credentials import Credentials
from worker_state.protocol.pending_register import PendingRegister
from worker_state.protocol.probe import OVERSLEPT, UPDATES_APART, expected_peers
from worker_state.protocol.record import build_record
from worker_state.protocol.registration_backoff import MANY_EVICTIONS, RegistrationBackoff
from worker_state.protocol.registration_fsm import Phase, Step, after
from worker_state.protocol.status import Available, Truth, in_use, word
from worker_state.session_string import SessionString

SLOWLY = (20.0, 40.0)
"""Seconds between tries at what the worker cannot repair by itself (a given room that is gone): one frame each, and
the worker is found again within a minute of the repair."""


class RegistrationActor(PureActor):
    """One worker's registration, from the first sign-in to the end. Times are in seconds of the caller's clock."""

    def __init__(self, config: Config, *, random: Random, nonce: Callable[[], str], awake: Callable[[], float]) -> None:
        """`awake` is a clock that goes on while the machine is suspended."""
        super().__init__()
        self._config = config
        self._random = random
        self._nonce = nonce
        self._awake = awake
        self._credentials = Credentials(config, random)
        self._backoff = RegistrationBackoff(random)
        self._log = log_lines.Registrations(show_session_string=config.show_session_string)
        self._peer_id = config.peer_id
        if config.api_key is not None and self._peer_id is None:
            # No sign-in gives a peer id: a random one, so that no two workers share it (faults.md, F06).
            self._peer_id = str(UUID(int=random.getrandbits(128), version=4))
        self._advertised = config.advertised
        self._admin: bool | None = config.admin or None  # None: nothing was ever said about it
        self._truth: Truth = Available()
        self._revision = 0
        self._link: events.Link | None = None
        self._phase = Phase.OFFLINE
        self._pending = PendingRegister()
        self._asked = False  # a registration is wanted although there is one
        self._register_at = -math.inf  # no `register` before this: the pause after a refusal or an eviction
        self._accepted_at = math.inf
        self._expected_peers = 0  # others in the room
        self._dialing = False
        self._given_up = False
        self._closing = False  # a Close frame is to be sent as soon as no `register` is unanswered (faults.md, F31)

    @property
    def unanswered(self) -> bool:
        """A `register` on the present link, or the last one, has no answer yet (faults.md, F31)."""
        return self._pending.unanswered > 0

    # --- what has happened --------------------------------------------------------------------------------------------

    def _apply(self, event: events.Event, now: float) -> None:
        match event:
            case events.FrameReceived(_, frame):
                answers = self._answers_register(frame)
                if answers:
                    self._pending.answered()
                if self._phase is not Phase.LEAVING:
                    self._apply_frame(frame, now, answers=answers)
            case events.RegisterWithdrawn():
                self._pending.answered()
            case events.LinkLost(epoch, closed):
                registered = epoch == self._pending.epoch
                self._publish(events.LinkReleased(closed.by_server, registered, registered and self.unanswered))
            case events.CloseLink():
                self._closing = True
        if self._phase is not Phase.LEAVING:
            self._apply_unless_leaving(event, now)
        if self._closing and self._link is not None and not self.unanswered:
            self._closing = False
            self._publish(events.SendClose(self._link.epoch))

    def _answers_register(self, frame: frames.Frame) -> bool:
        """Whether this frame surely answers a `register`; the caller counts it as answered."""
        refused = isinstance(frame, frames.RegisterError) and self.unanswered and error_policy.surely_answers(frame)
        return refused or isinstance(frame, frames.RegistrationAccepted)

    def _apply_unless_leaving(self, event: events.Event, now: float) -> None:
        match event:
            case events.ChangeStatus(revision, truth):
                self._revision, self._truth = revision, truth
            case events.ChangeAdvertised(revision, advertised):
                self._revision, self._advertised = revision, advertised
            case events.ChangeAdmin(admin):
                self._admin = admin
                self._ask_again()
            case events.Reregister():
                self._ask_again()
            case events.LinkOpened(link):
                self._link = link
                self._pending.link_opened()
                self._step(Step.LINK_OPENED)
            case events.DialFailed(failure):
                self._fail_unless_waiting(self._unreachable(failure))
            case events.LinkLost(_, closed) if self._link is not None:
                self._lose_link(now)
                self._fail_unless_waiting(self._unreachable(closed))
            case events.AnswersDelayed():
                self._pending.grant(now + self._config.timing.answer)
            case events.RegistrationLost(_, why) if self._phase is Phase.REGISTERED:
                self._evicted(why, now)
            case events.IdentityCreated(identity):
                self._peer_id = self._peer_id or identity.username
                self._log.call_succeeded(log_lines.SIGN_IN)
                self._credentials.signed_in(identity.id_token, now)
            case events.RoomCreated(room):
                self._log.call_succeeded(log_lines.ROOM_CREATION)
                self._credentials.room_created(room, now)
            case events.IdentityFailed(why, hint, status):
                self._log.call_failed(log_lines.SIGN_IN, why)
                self._credentials.call_failed(now, hint)
                self._fail_unless_waiting(SignInFailed(f"the server gave this worker no identity: {why}", why, status))
            case events.RoomFailed(why, status, hint):
                self._log.call_failed(log_lines.ROOM_CREATION, why)
                self._credentials.call_failed(now, hint, token_refused=error_policy.refuses_token(status))
                self._fail_unless_waiting(RoomCreationFailed(f"the server created no room: {why}", why, status))
            case events.StartLeaving():
                self._step(Step.LEAVE_BEGUN)

    def _ask_again(self) -> None:
        if self._link is None and not self._asked:
            self._log.postponed()
        self._asked = True

    def _step(self, step: Step) -> None:
        self._phase = after(self._phase, step)

    def _unreachable(self, why: object) -> ServerUnreachable:
        where = self._config.websocket_url.partition("?")[0]
        return ServerUnreachable(f"no connection to {where}: {why}", str(why))

    def _fail_unless_waiting(self, error: StartupFailed) -> None:
        """End a start that does not wait for its server (faults.md, G06)."""
        if not (self._log.started or self._given_up or self._config.wait_for_server):
            self._fail_start(error)

    def _fail_start(self, error: StartupFailed) -> None:
        self._given_up = True
        self._publish(events.StartupAborted(error))

    def _drop_link(self, why: str, now: float, cause: error_policy.Cause) -> None:
        assert self._link is not None
        polite = cause is error_policy.Cause.MOVED and not self.unanswered
        self._publish(events.DropLink(self._link.epoch, why, cause, polite))
        self._lose_link(now)
        if cause is not error_policy.Cause.MOVED:
            self._fail_unless_waiting(self._unreachable(why))

    def _lose_link(self, now: float) -> None:
        self._log.lost(now)
        if self._phase is Phase.REGISTERING:
            self._log.unsent(self._pending.epoch, word(self._truth))
        self._link = None
        self._pending.over()
        self._step(Step.LINK_LOST)

    def _apply_frame(self, frame: frames.Frame, now: float, *, answers: bool) -> None:
        match frame:
            case frames.RegistrationAccepted(peer_id, room_id):
                ours = peer_id == self._peer_id and self._credentials.names(room_id)
                if ours and (self._phase is Phase.REGISTERING or self._pending.doubtful):
                    self._accept(frame, now)
                else:
                    self._publish(events.FrameIgnored("an acknowledgement of a registration that is not ours"))
            case frames.Echo(nonce=nonce) if self._pending.overtaken_by(nonce):
                self._register_again(now)
            case frames.MetadataUpdated(peer_id) if peer_id == self._peer_id and self._pending.looks:
                self._register_again(now)
            case frames.NotInRoom() if self._pending.overtaken_by(None):
                self._register_again(now, proved=self._pending.is_first)
            case frames.RegisterError() if self._phase is Phase.REGISTERING:
                self._refused(frame, now)
            case frames.RegisterError(reason) if answers:
                self._publish(events.FrameIgnored(f"an error that answers nothing of ours: {reason}"))

    def _register_again(self, now: float, *, proved: bool = True) -> None:
        """The server answers what was sent behind the `register`, so it has swallowed the `register` itself (G05). Not
        `proved`: it may have answered what was sent before, and the `register` may yet take effect."""
        why = "the server has swallowed a register"
        self._publish(events.RegistrationRejected(why))
        self._log.swallowed(self._pending.epoch)
        self._step(Step.SWALLOWED)
        self._register_at = now
        if proved:
            self._pending.answered()
        if self._pending.swallowed():
            self._drop_link(f"{why} twice", now, error_policy.Cause.DROPPED)

    def _accept(self, frame: frames.RegistrationAccepted, now: float) -> None:
        assert self._link is not None
        assert self._peer_id is not None
        self._step(Step.ACCEPTED)
        late = (self._pending.record,) * self._pending.looks
        self._pending.over()
        self._accepted_at = now
        self._credentials.accept()
        self._backoff.accepted()
        self._expected_peers = expected_peers(self._expected_peers, frame.peers)
        room, given = self._credentials.room.value, self._config.room_id
        token = frame.token if room is None else room.token
        if given not in (None, frame.room_id):
            token = None  # an API key has named another room: what was given is not its token
        session = None if token is None else SessionString(frame.room_id, token, self._peer_id)
        self._log.accepted(self._link.epoch, session, frame.room_id, now, given=given)
        self._publish(
            events.WorkerRegistered(
                epoch=self._link.epoch,
                revision=self._pending.revision,
                peer_id=self._peer_id,
                room_id=frame.room_id,
                token=token,
                peers=frame.peers,
                settled=not self._asked,
                at=now,
                around=frame.around,
                expected_peers=self._expected_peers,
                late=late,
            )
        )

    def _refused(self, refusal: frames.RegisterError, now: float) -> None:
        self._step(Step.REFUSED)
        self._pending.over(doubtful=True)
        config = self._config
        decision = error_policy.after_refusal(refusal, own_room=config.creates_room, by_key=config.api_key is not None)
        self._publish(events.RegistrationRejected(decision.reason))
        sent_at = self._pending.sent_at
        if isinstance(decision, error_policy.Renew) and self._credentials.renewed_since(sent_at, decision.what):
            return  # it was renewed meanwhile, and the new one has not been refused
        self._log.refused(decision.reason)
        match decision:
            case error_policy.Renew(what):
                if (pause := self._credentials.refuse(what, now)) is None:
                    self._register_at = now + self._random.uniform(*SLOWLY)
                else:
                    self._log.renewing(what, decision.reason, pause)
            case error_policy.Retry(pause):
                self._register_at = now + self._backoff.refused(pause)
            case error_policy.GiveUp(reason) if not self._log.started:
                reason = reason.rstrip(".")
                self._fail_start(RegistrationRefused(f"the server refuses this worker: {reason}", reason))
            case error_policy.GiveUp():
                self._register_at = now + self._random.uniform(*SLOWLY)

    def _evicted(self, why: str, now: float) -> None:
        self._step(Step.FORGOTTEN)
        pause = self._backoff.evicted(now, lived=now - self._accepted_at)
        self._register_at = now + pause
        self._log.lost(now)
        self._log.evicted(why, pause, self._backoff.evictions, MANY_EVICTIONS + 1)

    def _look_at_the_clock(self, now: float) -> None:
        """After this process stood still an answer may have come and be unread, so it gets more time (T15)."""
        self._credentials.look_at_the_clock(self._awake() - now)
        if self._overslept(now) >= OVERSLEPT:
            self._pending.grant(now + self._config.timing.answer)

    # --- what is to be done -------------------------------------------------------------------------------------------

    def _start_what_is_due(self, now: float) -> float:
        if self._given_up or self._phase is Phase.LEAVING:
            return math.inf
        is_used = in_use(self._truth)
        if self._credentials.move(in_use=is_used) and self._link is not None:
            # One socket in two rooms would leave a ghost in the old one (faults.md, F30).
            self._drop_link("a new room needs a new socket", now, error_policy.Cause.MOVED)
        fetch_at = self._credentials.due(idle=self._phase is Phase.REGISTERED and not is_used)
        if now >= fetch_at:
            self._publish(self._credentials.next_call(now))
            fetch_at = math.inf
        return min(fetch_at, self._register_when_due(now))

    def _register_when_due(self, now: float) -> float:
        if self._phase is Phase.REGISTERING:
            if now >= self._pending.answer_by:
                self._drop_link("no answer to a register", now, error_policy.Cause.UNREGISTERED)
            elif now >= self._pending.probe_at and self._peer_id is not None:
                self._send(self._pending.probe(self._peer_id, now))
            return self._pending.due
        if not self._credentials.complete:
            return math.inf
        if not self._dialing:
            self._dialing = True
            self._publish(events.StartDialing())
        if self._phase is Phase.UNREGISTERED or (self._phase is Phase.REGISTERED and self._asked):
            again = self._pending.sent_at + UPDATES_APART if self._phase is Phase.REGISTERED else -math.inf
            if now < (register_at := max(self._register_at, again)):
                return register_at
            self._register(now)
        return self._pending.due

    def _register(self, now: float) -> None:
        assert self._link is not None
        assert self._peer_id is not None
        timing = self._config.timing
        record = build_record(self._advertised.tags, self._advertised.capabilities, self._truth)
        self._step(Step.REGISTER_SENT)
        self._asked = False
        first = self._pending.is_first_on(self._link.epoch)
        answer_by = max(self._link.answer_by, now + timing.answer) if first else now + timing.register
        self._pending.sent(now, self._link.epoch, self._revision, record, answer_by, self._nonce())
        self._send(self._credentials.register(self._peer_id, record, admin=self._admin))

    def _send(self, message: frames.Message) -> None:
        assert self._link is not None
        self._publish(events.SendFrame(self._link.epoch, message))
