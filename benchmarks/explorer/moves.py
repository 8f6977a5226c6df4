"""What can happen next in a world: every event from outside, and how the worker's actors take turns after it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.explorer.models import CLOSE, Exit, Kind, Stage, Wire, is_register
from benchmarks.explorer.parts import TRUTHS
from benchmarks.explorer.world import ORDERS, World
from worker_state.protocol import events
from worker_state.supervisor import REGISTRATION, STATUS

MOST_WIRES = 3  # dead ones that the server still believes in, and the live one


@dataclass(frozen=True, slots=True)
class Move:
    """One event. `label` names it among all moves of a world."""

    label: str
    trouble: bool  # somebody does something, or something goes wrong; else it is what happens anyway
    do: Callable[[World], None]


Turns = tuple[str, ...]
TURNS: dict[Turns, str] = {
    ORDERS[0]: "",
    ORDERS[1]: " (the status actor reads it first)",
    (): " (nobody has read it when the next comes)",
    (REGISTRATION,): " (only the registration actor has read it when the next comes)",
    (STATUS,): " (only the status actor has read it when the next comes)",
}
"""Who has a turn after an event: both until nothing is left to do, or one, or nobody."""


def turns(world: World, *, unread: bool) -> list[Turns]:
    """How the actors may take their turns now. `unread`: the next event may come before they have all had one."""
    waiting = [name for name in ORDERS[0] if world.has_turn(name)]
    found: list[Turns] = [ORDERS[0]]
    if len(waiting) == 2:
        found.append(ORDERS[1])
    if unread and waiting:
        found.append(())
        found += [(name,) for name in waiting if len(waiting) == 2]
    return found


def take(world: World, order: Turns) -> None:
    """The actors take their turns."""
    if len(order) == 2:
        world.settle(order)
    for name in order[:1] if len(order) == 1 else ():
        world.run(name)


def moves(world: World) -> Iterator[Move]:
    """Everything that can happen next."""
    yield from _network(world)
    yield from _calls(world)
    if world.settled and not world.ended:
        yield Move("time passes", False, World.pass_time)
    yield from _program(world)
    yield from _strangers(world)


def _program(world: World) -> Iterator[Move]:
    if world.leaving or world.cleanup.stage is not Exit.COLLECTS:
        return
    for doing in TRUTHS:
        if doing != world.doing:
            yield Move(f"the program sets {doing}", True, partial(World.change, doing=doing))
    if not world.judges.asked:
        yield Move("the program asks to register again", True, lambda world: world.publish(events.Reregister()))
    wire = world.connection.wire
    if world.judges.registered and wire is not None and not wire.others_spoke:
        yield Move("another part asks for a peer that is not there", True, World.signal)
    yield Move("the program leaves", True, World.leave)


def _network(world: World) -> Iterator[Move]:
    connection, server = world.connection, world.server
    for each in server.wires:
        yield from _wire(world, each)
    if connection.stage is Stage.DIALS and len(server.wires) < MOST_WIRES:
        yield Move("the dial opens a link", False, World.open_link)
    if connection.stage is Stage.DIALS:
        yield Move("the dial fails", True, World.refuse_link)
    wire = connection.wire
    if wire is None:
        return
    yield Move("the link is lost, and the server does not know", True, World.lose_link)
    if wire.there and not wire.deaf:
        yield Move("the server closes the link", True, partial(_server_closes, wire.name))
        yield Move("the link goes deaf", True, lambda world: world.server.deafen(_named(world, wire.name)))
    if any(each.there for each in server.wires):
        yield Move("the server restarts", True, _restart)


def _wire(world: World, wire: Wire) -> Iterator[Move]:
    if wire.up:
        text = wire.up[0]
        what = f"the server handles {_kind(text)} of {wire.name}"
        yield Move(what, False, partial(_handle, wire.name, ""))
        if is_register(text):
            yield Move(f"{what}: it swallows it", True, partial(_handle, wire.name, "swallowed"))
            yield Move(f"{what}: its store fails", True, partial(_handle, wire.name, "refused"))
            yield Move(f"{what}: its store fails afterwards", True, partial(_handle, wire.name, "refused late"))
    if wire.down and wire.here:
        yield Move(f"the worker reads {_kind(wire.down[0])}", False, partial(_receive, wire.name))
    if not wire.here:
        yield Move(f"the server notices the end of {wire.name}", False, partial(_notice, wire.name))


def _calls(world: World) -> Iterator[Move]:
    for n, call in enumerate(world.calls):
        what = f"the {call.kind.value}" + (f" of identity {call.about[:6]}" if call.kind is Kind.DELETE else "")
        yield Move(f"{what} succeeds", False, partial(_answer, n, ""))
        yield Move(f"{what} fails", True, partial(_answer, n, "failed"))
        if call.kind is not Kind.DELETE:
            yield Move(f"{what} is done, and its answer is lost", True, partial(_answer, n, "unheard"))


def _strangers(world: World) -> Iterator[Move]:
    server, peer_id, room = world.server, world.judges.peer_id, world.judges.room
    if server.hijacked:
        yield Move("the stranger with the worker's id goes", False, lambda world: world.server.unhijack())
    token = world.registration._credentials.id_token.value
    if token is not None and not world.leaving and server.token_is_good(token, world.now):
        yield Move("the ID token expires", True, lambda world: world.server.expire_tokens(world.now))
    if peer_id is None or room is None or world.ended:
        return
    if not world.leaving and server.room_is_good(room[0], world.now):
        yield Move("the room expires", True, lambda world: world.server.expire_room(room[0], world.now))
        if not server.hijacked:
            hijack = partial(_hijack, peer_id, *room)
            yield Move("a stranger registers under the worker's id", True, hijack)
    if server.entry(peer_id) is None:
        return
    yield Move("a stranger has the worker evicted", True, lambda world: world.server.evict(peer_id, world.now))
    if server.written_by_worker and not world.leaving:
        yield Move(
            "a stranger changes the worker's record", True, lambda world: world.server.rewrite(peer_id, world.now)
        )


def _named(world: World, name: str) -> Wire:
    return next(wire for wire in world.server.wires if wire.name == name)


def _handle(name: str, how: str, world: World) -> None:
    world.server.handle(_named(world, name), world.now, how)


def _receive(name: str, world: World) -> None:
    world.receive(_named(world, name))


def _notice(name: str, world: World) -> None:
    world.server.forget(_named(world, name))


def _answer(number: int, how: str, world: World) -> None:
    world.answer(world.calls[number], how)


def _hijack(peer_id: str, room_id: str, token: str | None, world: World) -> None:
    world.server.hijack(peer_id, room_id, token, world.now)


def _server_closes(name: str, world: World) -> None:
    wire = _named(world, name)
    wire.down.append(1001)
    world.server.forget(wire)


def _restart(world: World) -> None:
    world.server.restart()
    if world.connection.wire is not None:
        world.lose_link()
    world.server.tidy()


def _kind(text: str | int) -> str:
    if isinstance(text, int):
        return f"a Close frame ({text})"
    if text == CLOSE:
        return "a Close frame"
    _, _, rest = text.replace('": "', '":"').partition('"type":"')
    return f"a {rest.partition(chr(34))[0] or 'refusal'}"
