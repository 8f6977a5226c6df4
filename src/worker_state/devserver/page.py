"""The one page of the development server, and what it asks for: every worker of every room, as it is right now.

Nothing secret may come in: no tokens, no session strings, no API keys (records of v3.0 carry them). The page is one
file beside this one; what may run on it is named by its hash, so that nothing else does, whatever a worker is called.
"""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from worker_state.devserver.rules import Rooms
from worker_state.integrations.http_server import Response
from worker_state.tools.roster import id_length, read_entry

FROM_RECORD = ("status", "job_id", "gpu_model", "gpu_memory_mb", "hostname", "tags")
SAFE = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}


@cache
def page() -> Response:
    """`GET /`."""
    html = files("worker_state.devserver").joinpath("page.html").read_bytes()
    policy = (
        f"default-src 'none'; script-src {_hash_of('script', html)}; style-src {_hash_of('style', html)};"
        " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Response(200, html, "text/html; charset=utf-8", {"content-security-policy": policy, **SAFE})


def _hash_of(element: str, html: bytes) -> str:
    (content,) = re.findall(rf"<{element}>(.*?)</{element}>".encode(), html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode('ascii')}'"


def workers(rooms: Rooms, now: float, ws_url: str) -> Response:
    """`GET /workers.json`: by room and peer id; and where workers connect, for the commands on the page.

    `since_seconds` is for how long this server has known it in this status with this job, `short` the beginning of its
    peer id that no other one here has; null for what is not known. `users` and `rooms` are how many there are; rooms
    that have run out do not count.
    """
    peers = [(room_id, *item) for room_id in rooms.occupied() for item in sorted(rooms.peers(room_id).items())]
    length = id_length(peer_id for _, peer_id, _ in peers)
    found = []
    for room_id, peer_id, peer in peers:
        if peer.role == "worker":
            entry = read_entry(peer_id, peer.metadata)
            about = {"room_id": room_id, "peer_id": peer_id, "short": peer_id[:length]}
            about |= {name: getattr(entry, name) for name in FROM_RECORD}
            found.append({**about, "since_seconds": round(max(0.0, now - peer.since), 1)})
    counts = {"users": len(rooms.users), "rooms": sum(not room.expired(now) for room in rooms.rooms.values())}
    return Response.json(200, {"workers": found, **counts, "ws_url": ws_url}, headers=SAFE)
