"""How long the server may list a peer whose sockets are over."""

import math

from worker_state.protocol.peer_listing import LETS_GO, NOTICE, PeerListing


def test_never_registered() -> None:
    """Who has never registered is not listed."""
    assert PeerListing().until == -math.inf


def test_a_close_frame() -> None:
    """A moment after its Close frame the server has forgotten the peer, and also what it had of an earlier socket."""
    listing = PeerListing()
    listing.lost(10.0, closed=False, unanswered=False)
    assert (listing.until, listing.ends_soon(11.0)) == (10.0 + LETS_GO, False)
    listing.lost(20.0, closed=True, unanswered=False)
    assert (listing.until, listing.ends_soon(20.0)) == (20.0 + NOTICE, True)


def test_a_register_that_may_come_late() -> None:
    """A `register` of a lost socket may take effect after a later socket was closed (faults.md, F03)."""
    listing = PeerListing()
    listing.lost(10.0, closed=False, unanswered=True)
    listing.lost(20.0, closed=True, unanswered=False)
    assert listing.until == 10.0 + LETS_GO


def test_a_socket_that_was_closed_before_it_was_registered() -> None:
    """A Close frame in place of the answer says nothing of an earlier socket (simulation, seed 534)."""
    listing = PeerListing()
    listing.lost(10.0, closed=False, unanswered=False)
    listing.lost(20.0, closed=True, unanswered=True)
    assert listing.until == 10.0 + LETS_GO


def test_what_is_worth_waiting_for() -> None:
    """A leaving worker waits for the moment after a Close frame, not until a dead socket is noticed."""
    listing = PeerListing()
    listing.lost(0.0, closed=False, unanswered=False)
    assert not listing.ends_soon(LETS_GO - 0.5)
    assert listing.ends_soon(LETS_GO - 0.3)
