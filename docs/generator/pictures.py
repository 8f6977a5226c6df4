"""The pictures: what the routing table and the table of the registration's states say, and two that are drawn here."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from docs.generator.drawing import Drawing
from worker_state import supervisor
from worker_state.protocol import events, registration_fsm
from worker_state.protocol.registration_fsm import Phase

SOURCES = Path(supervisor.__file__).parent
PUBLISHERS = {
    "manager.py": "manager",
    "manager_base.py": "manager",
    "actors/connection.py": "connection",
    "actors/link.py": "connection",
    "actors/registration.py": "registration",
    "protocol/credentials.py": "registration",  # its decisions on sign-ins and rooms
    "actors/status.py": "status",
    "actors/cleanup.py": "cleanup",
    "actors/api_calls.py": "API calls",
}
"""Who publishes what these files make. What is made elsewhere is only counted (`FrameIgnored`, `SignalDropped`)."""
COLUMNS = ("manager", *supervisor.ACTORS, supervisor.API_CALLS, supervisor.SIGNALS)


def publishers() -> dict[str, set[str]]:
    """By the name of each event, who publishes it: whose file makes one."""
    found = defaultdict(set)
    for file, who in PUBLISHERS.items():
        for node in ast.walk(ast.parse((SOURCES / file).read_text("utf-8"))):
            if isinstance(node, ast.Call):
                found[ast.unparse(node.func).removeprefix("events.")].add(who)
    return found


def flows() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Publisher, name and receivers of each event that somebody receives, in the order of the publishers."""
    made = publishers()
    unknown = [event.__name__ for event, to in supervisor.ROUTES.items() if to and not made[event.__name__]]
    assert not unknown, f"nobody publishes {unknown}: name the file in PUBLISHERS"
    for who in COLUMNS:
        for event, receivers in supervisor.ROUTES.items():
            if who in made[event.__name__] and receivers:
                yield who, event.__name__, receivers
        if who == supervisor.CONNECTION:
            for frame, receivers in supervisor.FRAME_ROUTES.items():
                if receivers:
                    yield who, f"{events.FrameReceived.__name__}: {frame.__name__}", receivers


def routing() -> Drawing:
    """Each event as a line from who publishes it to who receives it."""
    rows = list(flows())
    left, apart, top, high = 265, 94, 62, 19
    picture = Drawing(left + apart * len(COLUMNS) + 5, top + high * len(rows) + 62, "What flows between the actors")
    place = {name: left + 43 + apart * number for number, name in enumerate(COLUMNS)}
    bottom = top + high * len(rows)
    for name, x in place.items():
        picture.box(x - 44, 14, 88, 28, [name], "own" if name in supervisor.ACTORS else "box")
        picture.line([(x, 42), (x, bottom)], "faint", tip=False)
    before = ""
    for number, (who, event, receivers) in enumerate(rows):
        y = top + high * number + 4
        if before and who != before:
            picture.line([(12, y - high / 2), (picture.width - 12, y - high / 2)], "faint", tip=False)
        before = who
        picture.text(14, y + 4, event, "code", "start")
        columns = [place[who], *(place[each] for each in receivers)]
        picture.line([(min(columns), y), (max(columns), y)], tip=False)
        picture.circle(place[who], y, 4.5, "ring")
        for each in receivers:
            picture.circle(place[each], y, 2.2 if each == who else 4.5, "dot")
    picture.circle(22, bottom + 18, 4.5, "ring")
    picture.text(34, bottom + 22, "publishes it", "small", "start")
    picture.circle(122, bottom + 18, 4.5, "dot")
    picture.text(
        134,
        bottom + 22,
        "receives it. Everything passes the supervisor, and reaches the snapshot, too.",
        "small",
        "start",
    )
    picture.text(
        14,
        bottom + 44,
        "API calls: sign-in and room creation.   signals: messages for the worker's other parts.",
        "small",
        "start",
    )
    return picture


def states() -> Drawing:
    """The registration's states and steps, as the table has them."""
    wide, apart, y, left = 112.0, 190.0, 150.0, 30.0
    row: list[Phase] = [phase for phase in Phase if phase is not Phase.LEAVING]
    place = {phase: left + apart * number for number, phase in enumerate(row)}
    picture = Drawing(left * 2 + apart * (len(row) - 1) + wide, 420, "The states of a registration")
    steps, labels = defaultdict[tuple[Phase, Phase], list[str]](list), list[tuple[float, float, str, str]]()
    for (phase, step), then in registration_fsm.TABLE.items():
        steps[phase, then].append(step.value)
    for (phase, then), names in sorted(steps.items(), key=lambda each: each[0][1] is not Phase.LEAVING):
        words = ", ".join(names)
        if then is Phase.LEAVING:
            x = place[phase] + 18
            picture.line([(x, y + 40), (x, 362)])
            labels.append((x + 6, 352.0, words, "start"))
            continue
        start, end = place[phase] + wide / 2, place[then] + wide / 2
        distance = abs(row.index(then) - row.index(phase))
        if end > start and distance == 1:
            picture.line([(start + wide / 2, y + 12), (end - wide / 2, y + 12)])
            labels.append(((start + end) / 2, y + 5, words, "middle"))
        else:
            up = end > start
            deep = (-1 if up else 1) * (34 + 34 * distance)
            edge = y if up else y + 40
            side = 16 + 6 * distance
            start, end = (start + side, end - side) if up else (start - side, end + side)
            picture.path(
                f"M{start:g} {edge:g} C{start:g} {edge + deep * 1.33:g} {end:g} {edge + deep * 1.33:g} {end:g} {edge:g}"
            )
            labels.append(((start + end) / 2, edge + deep + (-6 if up else 4), words, "middle"))
    for x, base, words, anchor in labels:  # over every line
        picture.text(x, base, words, "small halo", anchor)
    for phase, x in place.items():
        picture.box(x, y, wide, 40, [phase.value], "own")
    picture.box(left, 366, picture.width - 2 * left, 34, [Phase.LEAVING.value], "box")
    picture.circle(12, y + 20, 5, "dot")
    picture.line([(12, y + 20), (left, y + 20)])
    return picture


MESSAGES = (
    ("registration", "server", "POST /anonymous-signin, /create-room"),
    ("registration", "connection", "StartDialing"),
    ("connection", "server", "dial, upgrade"),
    ("connection", "registration", "LinkOpened"),
    ("registration", "server", "register, with the true status"),
    ("server", "registration", "registered_auth"),
    ("registration", "status", "WorkerRegistered"),
    ("status", "server", "echo: a peer_message to itself"),
    ("server", "status", "the same frame"),
)


def registration() -> Drawing:
    """Who sends what to whom, from the start to a proved registration."""
    columns = ("connection", "registration", "status", "server")
    left, apart, top, high = 70, 190, 78, 38
    place = {name: left + apart * number for number, name in enumerate(columns)}
    picture = Drawing(2 * left + apart * 3, top + high * len(MESSAGES) + 42, "From the start to a proved registration")
    bottom = top + high * len(MESSAGES) + 2
    for name, x in place.items():
        picture.box(x - 56, 14, 112, 30, [name], "box" if name == "server" else "own")
        picture.line([(x, 44), (x, bottom)], "faint", tip=False)
    for number, (sender, receiver, words) in enumerate(MESSAGES):
        y, start, end = top + high * number, place[sender], place[receiver]
        picture.line([(start, y), (end - 3 if end > start else end + 3, y)])
        picture.text((start + end) / 2, y - 6, words, "small")
    picture.text(place["status"], bottom + 22, "PresenceProved: synced() returns", "bold")
    return picture


def actors() -> Drawing:
    """The parts of a worker, and which of them speaks to the server."""
    picture = Drawing(720, 372, "The four actors, the supervisor and the server")
    picture.box(160, 16, 400, 46, ["the worker", "set_busy(), signals, state"])
    picture.box(160, 96, 400, 46, ["Manager, supervisor", "routing table, snapshot, order of the end"])
    picture.line([(360, 64), (360, 94)], both=True)
    owns = {
        "connection": ("the socket, one", "link at a time"),
        "registration": ("identity, room,", "registration"),
        "status": ("what the server", "has confirmed"),
        "cleanup": ("identities", "to delete"),
    }
    talks = {"connection": "trio-websocket", "registration": "httpx: sign in, …", "cleanup": "httpx: delete"}
    for number, (name, words) in enumerate(owns.items()):
        x, above = 22 + 172 * number, (240, 274, 446, 480)[number]
        picture.box(x, 182, 160, 68, [name, *words], "own")
        picture.line([(above, 144), (x + 80, 180)], both=True)
        if name in talks:
            picture.line([(x + 80, 252), (x + 80, 318)], both=name == "connection")
            picture.text(x + 86, 290, talks[name], "small", "start")
    picture.box(22, 320, 676, 36, ["signaling server"])
    return picture


MOMENTS = {  # where they stand, as parts of the width
    "the start:\nsign-in": 0.0,
    "registered": 0.10,
    "an offer": 0.25,
    "the job\nbegins": 0.34,
    "the link\nis cut": 0.47,
    "registered\nagain": 0.60,
    "the job\nends": 0.75,
    "SIGTERM:\ndrain": 0.86,
    "deleted": 0.98,
}
COLOURS = {"open": "calm", "dialling": "bad", "accepted": "good", "available": "good", "reserved": "mid"}
COLOURS |= {"busy": "calm", "maintenance": "mid", "out of date": "bad"}
LIVES = {  # what is so, and until when; nothing is ""
    "link": (("", 0.04), ("open", 0.47), ("dialling", 0.56), ("open", 0.98)),
    "registration": (("", 0.10), ("accepted", 0.47), ("", 0.60), ("accepted", 0.98)),
    "local truth": (
        ("available", 0.25),
        ("reserved", 0.34),
        ("busy", 0.75),
        ("available", 0.86),
        ("maintenance", 0.98),
    ),
    "what clients see": (
        *(("", 0.10), ("available", 0.26), ("reserved", 0.35), ("busy", 0.47), ("out of date", 0.60)),
        *(("busy", 0.76), ("available", 0.87), ("maintenance", 0.98)),
    ),
}
ECHOES = (0.115, 0.14, 0.18, 0.23, 0.30, 0.40, 0.615, 0.64, 0.68, 0.73, 0.81, 0.91)


def life() -> Drawing:
    """A worker's life: what is true, what the server shows, and when that is proved."""
    left, wide, high = 150, 750, 44
    picture = Drawing(left + wide + 40, 340, "A worker's life, from its start to its end; not to scale")
    for words, part in MOMENTS.items():
        for number, line in enumerate(words.split("\n")):
            picture.text(left + wide * part, 26 + 14 * number, line, "small")
        picture.line([(left + wide * part, 50), (left + wide * part, 292)], "faint", tip=False)
    for number, (name, stretches) in enumerate(LIVES.items()):
        y, begin = 68 + high * number, 0.0
        picture.text(14, y + 18, name, "bold", "start")
        for words, end in stretches:
            if words:
                picture.rect(left + wide * begin, y, wide * (end - begin), 26, COLOURS[words], 4)
                picture.text(left + wide * (begin + end) / 2, y + 17.5, words, "small inside")
            begin = end
    y = 68 + high * len(LIVES)
    picture.text(14, y + 18, "proof: an echo", "bold", "start")
    for part in ECHOES:
        picture.circle(left + wide * part, y + 13, 5, "dot")
    words = "Time runs to the right, not to scale. The worker may be busy while there is no link: the truth is local."
    picture.text(14, 320, words, "small", "start")
    return picture


PICTURES = {each.__name__: each for each in (actors, routing, registration, states, life)}
