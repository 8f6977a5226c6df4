"""The quiet end: no further trouble, and time passes. However a world has come about, the worker has to be found."""

from collections.abc import Iterator

from benchmarks.explorer.canonical import fingerprint
from benchmarks.explorer.judges import is_true
from benchmarks.explorer.models import Stage
from benchmarks.explorer.parts import BEGAN
from benchmarks.explorer.world import World

BOUND = 200.0  # seconds: the longest pause after an eviction, and what else may come together
DEAF_BOUND = 1300.0  # the first `register` of a link is waited for so long, and a deaf one answers pings (F13)
RECORD_BOUND = 45.0  # when nothing but the record is wrong (G03), and answers may be on their way
EXIT_BOUND = 4.0  # `timing.exit` and `timing.close`, the latter twice where a given room is left, and half a second
CALM = 3 * 3600.0  # seconds: a room lives for two hours, an ID token for one
CALM_SIGN_INS = 5  # in that time, the first one included


def is_found(world: World) -> bool:
    """Whether a client in the worker's room finds it with its true status, and gets a message through to it."""
    peer_id, room, wire = world.judges.peer_id, world.judges.room, world.connection.wire
    if peer_id is None or room is None or wire is None or wire.deaf:
        return False
    entry = world.server.rooms.peers(room[0]).get(peer_id)
    return entry is not None and entry.connection == wire.name and is_true(entry.metadata, world.doing)


def step(world: World) -> None:
    """What happens next if all goes well: the network first, then time."""
    for wire in world.server.wires:
        if wire.up:
            world.server.handle(wire, world.now)
            break
        if wire.down and wire.here:
            world.receive(wire)
            break
    else:
        if world.connection.stage is Stage.DIALS:
            world.open_link()
        elif world.calls:
            world.answer(world.calls[0])
        else:
            world.pass_time(60.0)
    world.settle()


class QuietEnds:
    """Runs quiet ends, and remembers how each went: two that meet go on alike."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.steps = 0
        self._seconds: dict[int, float] = {}  # from a state on a quiet way to its end

    def complaints(self, world: World) -> Iterator[str]:
        """What is wrong with the end of this world, which is used up."""
        began, bound, path, key = world.now, self._begin(world), list[tuple[int, float]](), 0
        while not (world.ended if world.leaving else is_found(world)):
            key = fingerprint(world)
            if key in self._seconds:
                break
            path.append((key, world.now))
            if world.now - began > bound or len(path) > 20_000:
                what = "has not left" if world.leaving else "is not found with its true status"
                yield f"after {world.now - began:.0f} quiet seconds the worker {what}"
                return
            step(world)
            self.steps += 1
            if world.violations:
                yield from (f"{each}, after {world.now - began:.1f} quiet seconds" for each in world.violations)
                return
        else:
            key = 0
        seconds = world.now - began + self._seconds.get(key, 0.0)
        self._seconds.update((each, began + seconds - at) for each, at in path)
        if seconds > bound:
            what = "leaves" if world.leaving else "is found"
            yield f"the worker {what} after {seconds:.0f} quiet seconds only, more than {bound:.0f}"
        self.longest = max(self.longest, seconds)
        if world.ended:
            yield from self._ghosts(world)

    def _begin(self, world: World) -> float:
        """The trouble ends. Returns within how many seconds the world has to be right."""
        wire, peer_id = world.connection.wire, world.judges.peer_id
        entry = None if peer_id is None else world.server.entry(peer_id)
        world.settle()
        bound = DEAF_BOUND if wire is not None and wire.deaf else BOUND
        if entry is not None and wire is not None and entry.connection == wire.name and world.judges.registered:
            bound = RECORD_BOUND
        if world.leaving:
            bound = EXIT_BOUND
        for each in [each for each in world.server.wires if not each.here]:
            while each.up and each.there:
                world.server.handle(each, world.now)
            world.server.forget(each)
        if world.config.room_id is not None:
            world.server.restore_room(world.config.room_id)
        return bound

    def _ghosts(self, world: World) -> Iterator[str]:
        for wire in list(world.server.wires):
            while wire.up and wire.there:
                world.server.handle(wire, world.now)
            world.server.forget(wire)
        entry = None if world.judges.peer_id is None else world.server.entry(world.judges.peer_id)
        if entry is not None and entry.connection.startswith("link"):  # type: ignore[attr-defined]
            yield "the worker has left, and is listed for ever"


def calm(world: World) -> str | None:
    """What is wrong in three hours in which nothing happens to this worker, which is used up: what runs out must have
    been renewed in time, and no more often than that."""
    while world.now < BEGAN + CALM:
        step(world)
        token, room = world.registration._credentials.id_token.value, world.judges.room
        world.judges.look(world)
        if world.violations:
            return f"{world.violations[0]}, in the calm"
        if room is not None and not world.server.room_is_good(room[0], world.now):
            return "the room of an idle worker has run out"
        if token is not None and not world.server.token_is_good(token, world.now):
            return "the ID token has run out"
    sign_ins = world.server.sign_ins - 1
    return f"{sign_ins} sign-ins in three hours" if sign_ins > CALM_SIGN_INS else None
