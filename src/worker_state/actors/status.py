"""The status actor: owns what is true of the worker, and compares it with what the server has confirmed. No I/O here.

It sends the newest truth only: nothing is queued, nothing replayed. There are no correlation ids, so one update is
under way at a time and its answer is compared by content. It also proves, by an echo to the worker itself, that clients
reach it through this socket (protocol.md, E). It is silent until the worker is registered: an update before that
only earns NOT_IN_ROOM (faults.md, F12).
"""

import math
from collections.abc import Callable
from random import Random

from worker_state.actors import log_lines
from worker_state.actors.runner import PureActor
from worker_state.config import Config
from worker_state.protocol import echo, error_policy, events, frames, probe
from worker_state.protocol.flush import SignalFlush
from worker_state.protocol.record import build_record, differences, look
from worker_state.protocol.status import Available, Reserved, Truth, without_job, word


class StatusActor(PureActor):
    """One worker's status, until its last signals have arrived. Times are in seconds of the caller's clock."""

    def __init__(self, config: Config, *, random: Random, nonce: Callable[[], str], awake: Callable[[], float]) -> None:
        """`awake` is a clock that goes on while the machine is suspended."""
        super().__init__()
        self._config = config
        self._random = random
        self._nonce = nonce
        self._awake = awake
        self._truth: Truth = Available()
        self._advertised = config.advertised
        self._revision = 0
        self._draining = False
        self._reserved_until = math.inf
        self._flush = SignalFlush()
        self._leaving = False
        self._registered: probe.Registered | None = None
        self._deaf_epoch = 0  # the link on which answers were missing before, without a proof since
        self._refusals = echo.EchoRefusals()
        self._repairs = probe.RepairPauses()
        self._forgery_logged = False
        self._unsent_logged = True  # before the first registration nothing is late
        self._suspends = probe.SuspendDetector()
        self._namesake = echo.Namesake()
        self._not_before = -math.inf  # no update before this

    def _send(self, registered: probe.Registered, message: frames.Message) -> None:
        self._publish(events.SendFrame(registered.epoch, message))

    def _record(self) -> frames.Message:
        return build_record(self._advertised.tags, self._advertised.capabilities, self._truth)

    # --- what has happened --------------------------------------------------------------------------------------------

    def _apply(self, event: events.Event, now: float) -> None:
        if self._leaving:
            self._finish_flush(event)
            return
        match event:
            case events.ChangeStatus(revision, truth):
                self._revision, self._truth = revision, truth
                limit = self._config.reservation_limit if isinstance(truth, Reserved) else None
                self._reserved_until = math.inf if limit is None else now + limit
                if self._registered is None:
                    self._postpone("the worker is not registered")
            case events.ChangeAdvertised(revision, advertised):
                self._revision, self._advertised = revision, advertised
                if self._registered is None:
                    self._postpone("the worker is not registered")
            case events.StartDraining():
                self._draining = True
            case events.LinkOpened():
                self._registered, self._flush = None, SignalFlush()
            case events.LinkLost():
                if self._registered is not None and self._registered.confirmed != self._revision:
                    self._postpone("the connection was lost")
                self._registered = None
            case events.SignalSent(_, at):
                self._flush.sent(at)
            case events.WorkerRegistered():
                self._begin_registration(event, now)
            case events.FrameReceived(_, frame) if self._registered is not None:
                self._apply_frame(self._registered, frame, now)
            case events.AnswersDelayed() if self._registered is not None:
                self._grant(self._registered, now)
            case events.StartLeaving():
                self._leaving = True
                self._begin_flush()

    def _begin_registration(self, event: events.WorkerRegistered, now: float) -> None:
        before, schedule = self._registered, probe.Schedule(self._random, now, event.expected_peers or event.peers)
        late_acks = probe.LateAcks() if before is None else before.late_acks
        if before is not None and before.update is not None:
            late_acks.add(before.update.record)  # on the same link, so its answer is still to come
        for record in event.late:
            late_acks.add(record)
        self._registered = probe.Registered(
            event.epoch, event.peer_id, schedule, event.revision, event.revision, late_acks
        )
        self._unsent_logged = False

    def _begin_flush(self) -> None:
        registered = self._registered
        late = registered is not None and registered.written != self._revision
        if registered is not None and late:  # nothing is waited for any more, not even the answer to the last one
            self._send(registered, frames.update_metadata(registered.peer_id, self._record()))
        if registered is None or not self._flush.needed:
            self._publish(events.SignalsFlushed())
            return
        record = self._record() if self._refusals.in_force else None
        earlier = int(registered.update is not None) + int(late)
        self._send(registered, self._flush.begin(registered.peer_id, self._nonce(), record, earlier))

    def _finish_flush(self, event: events.Event) -> None:
        answered = isinstance(event, events.FrameReceived) and self._flush.ended_by(event.frame)
        if answered or isinstance(event, events.LinkLost | events.CloseLink):
            self._publish(events.SignalsFlushed())

    def _postpone(self, why: str) -> None:
        if not self._unsent_logged:
            self._unsent_logged = True
            log_lines.status_postponed(word(self._truth), why)

    def _apply_frame(self, registered: probe.Registered, frame: frames.Frame, now: float) -> None:
        match frame:
            case frames.MetadataUpdated(peer_id, stored) if peer_id == registered.peer_id:
                self._take_answer(registered, stored, now)
            case frames.MetadataUpdated():
                self._publish(events.FrameIgnored("an acknowledgement of somebody else's update"))
            case frames.Echo(sender, nonce) if sender == registered.peer_id and nonce == registered.nonce:
                self._flush.echoed(registered.echo_at)
                registered.nonce, registered.echo_by = None, math.inf
                if self._refusals.in_force:
                    log_lines.echoes(refused=False)
                self._refusals.disproved()
                self._prove(registered, now)
            case frames.Echo(sender, nonce) if not nonce.startswith(echo.REGISTER_PREFIX):
                if sender == registered.peer_id and self._namesake.seen(nonce):
                    log_lines.peer_id_shared(registered.peer_id)
                self._publish(events.FrameIgnored("an echo that is not ours, or comes too late"))
            case frames.NotInRoom(code):
                self._forget(registered, f"the server has forgotten this worker: it answers {code}")
            case frames.OtherMessage({"type": "error", "code": str(code)} as message):
                meaning = error_policy.meaning_of_code(message, registered.peer_id)
                if meaning is error_policy.CodeMeaning.NO_SUCH_PEER and registered.update is not None:
                    registered.schedule.hurry(now)  # its answer, or another part's: the echo decides
                elif meaning is error_policy.CodeMeaning.FORGOTTEN and registered.nonce is not None:
                    why = f"the server has forgotten this worker: it answers our own echo with {code}"
                    self._forget(registered, why)
                elif meaning is error_policy.CodeMeaning.UNKNOWN and registered.nonce is not None:
                    self._refusals.suspect()

    def _prove(self, registered: probe.Registered, now: float) -> None:
        registered.misses = probe.MissedAnswers()
        self._deaf_epoch = 0
        self._refusals.proved()
        self._publish(events.PresenceProved(registered.epoch, now))

    def _take_answer(self, registered: probe.Registered, stored: frames.Message, now: float) -> None:
        """An update was answered: has the server stored what is true?"""
        update = registered.update
        wrong = () if update is None else differences(stored, update.record)
        if registered.late_acks.settles(stored, fits=update is not None and not wrong):
            return
        if update is None:
            self._publish(events.FrameIgnored("an acknowledgement of an update that is not ours"))
            return
        registered.update = None
        if self._refusals.in_force and not wrong:
            self._prove(registered, now)  # a server without echoes: the next best thing
        if wrong:
            registered.confirmed = None
            self._repairs.found(now)
            self._publish(events.UpdateFailed(drifted=True))
            if not self._forgery_logged:
                self._forgery_logged = True
                log_lines.record_repaired(wrong, forged=update.is_look)
        elif update.is_look:
            self._repairs.none()
            self._forgery_logged = False
        else:
            registered.confirmed = update.revision
            if update.revision == self._revision:
                self._publish(events.StatusConfirmed(update.revision, now))

    def _forget(self, registered: probe.Registered, why: str) -> None:
        self._registered = None
        self._publish(events.RegistrationLost(registered.epoch, why))

    def _look_at_the_clock(self, now: float) -> None:
        """After the process was stopped or the machine suspended: prove at once, and give answers more time (T15)."""
        slept = self._suspends.since(now, self._awake())
        if slept >= probe.OVERSLEPT:
            self._publish(events.MachineSuspended(slept))
        stopped = max(self._overslept(now), slept)
        if (registered := self._registered) is None or stopped < probe.OVERSLEPT:
            return
        log_lines.woken(stopped)
        registered.schedule.hurry(now)
        self._grant(registered, now)

    def _grant(self, registered: probe.Registered, now: float) -> None:
        """All the time that an answer may take, from now on, for those that are waited for."""
        answer_by = now + self._config.timing.answer
        if registered.nonce is not None:
            registered.echo_by = answer_by
        if registered.update is not None:
            registered.update.answer_by = answer_by

    # --- what is to be done -------------------------------------------------------------------------------------------

    def _end_reservation(self, now: float) -> float:
        """A client that vanished must not keep the worker reserved for ever (faults.md, F15)."""
        if now >= self._reserved_until:
            self._reserved_until = math.inf
            log_lines.reservation_over(self._config.reservation_limit)
            self._publish(events.ChangeStatus(self._revision + 1, without_job(draining=self._draining)))
        return self._reserved_until

    def _start_what_is_due(self, now: float) -> float:
        if self._leaving:
            return math.inf
        return min(self._end_reservation(now), self._prove_and_update(now))

    def _prove_and_update(self, now: float) -> float:
        registered = self._registered
        if registered is None:
            return math.inf
        self._count_misses(registered, now)
        if registered.misses.too_many:
            self._give_up(registered)
            return math.inf
        if registered.nonce is None and now >= registered.schedule.due:
            self._probe(registered, now)
        wake_at = min(now + probe.TICK, registered.schedule.due if registered.nonce is None else registered.echo_by)
        if registered.update is None:
            wake_at = min(wake_at, self._update_when_due(registered, now))
        if registered.update is not None:
            wake_at = min(wake_at, registered.update.answer_by)
        return wake_at

    def _count_misses(self, registered: probe.Registered, now: float) -> None:
        within = self._config.timing.answer
        if registered.update is not None and now >= registered.update.answer_by:
            if not registered.update.is_look:
                registered.confirmed = None
            registered.misses.add(registered.update.answer_by - within, now)
            registered.late_acks.add(registered.update.record)
            registered.update = None
            self._publish(events.UpdateFailed(drifted=False))
        if now >= registered.echo_by:
            registered.nonce, registered.echo_by = None, math.inf
            if self._refusals.in_force:
                return  # it was tried once more; the answers to full updates stay the proof
            registered.schedule.hurry(now)
            if not self._refusals.count():
                registered.misses.add(registered.echo_at, now)
            elif self._refusals.in_force:
                log_lines.echoes(refused=True)

    def _give_up(self, registered: probe.Registered) -> None:
        """Answers are missing: register again on the same link; the second time the link itself is of no use."""
        other = ", and another worker uses this peer id" if self._namesake.there else ""
        epoch, why = registered.epoch, f"no answer to {registered.misses.count} frames{other}"
        if self._deaf_epoch == epoch:
            self._registered = None
            self._publish(events.DropLink(epoch, f"{why}, also after registering again"))
        else:
            self._deaf_epoch = epoch
            self._forget(registered, why)

    def _probe(self, registered: probe.Registered, now: float) -> None:
        proof = registered.schedule.sent(now)
        registered.look_due = registered.look_due or proof is not probe.Proof.ECHO
        registered.full_due = registered.full_due or proof is probe.Proof.FULL or self._refusals.in_force
        if self._refusals.worth_an_echo():
            registered.nonce = self._nonce()
            self._namesake.sent(registered.nonce)
            registered.echo_at, registered.echo_by = now, now + self._config.timing.answer
            self._send(registered, frames.echo(registered.peer_id, registered.nonce))

    def _update_when_due(self, registered: probe.Registered, now: float) -> float:
        """Send the one update that is due: the truth at once, a repair at its pace, a look before a full one."""
        if registered.confirmed is None and registered.written == self._revision and now < self._repairs.until:
            return self._repairs.until
        stale = registered.confirmed != self._revision
        if not (stale or registered.look_due or registered.full_due):
            return math.inf
        if now < self._not_before:
            return self._not_before
        record = self._record()
        is_look = registered.look_due and not stale
        registered.look_due = False
        self._not_before = now + probe.UPDATES_APART
        if not is_look:
            registered.full_due, registered.written = False, self._revision
        registered.update = probe.Update(self._revision, record, now + self._config.timing.answer, is_look)
        self._send(registered, frames.update_metadata(registered.peer_id, look(record) if is_look else record))
        return math.inf
