"""Leases: when an ID token or a room is renewed, and when another new one would be of no use."""

import base64
import json
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_state.protocol import lease
from worker_state.protocol.lease import Leased


def token(**claims: object) -> str:
    """A JWT with these claims, unsigned."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"header.{body}.signature"


def test_token_life() -> None:
    """A token's life is read from its own claims, however long they are, if it is between a minute and a day."""
    for length in range(20):
        assert lease.token_life(token(iat=1_000_000, exp=1_001_800, sub="x" * length)) == 1800
    lives = {life: lease.token_life(token(iat=1_000_000, exp=1_000_000 + life)) for life in (59, 60, 86400, 86401)}
    assert lives == {59: 3600, 60: 60, 86400: 86400, 86401: 3600}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "a.b.c",
        "a.e30.c",
        token(exp=5),
        token(iat="x", exp="y"),
        token(iat=0, exp=5),
        token(iat=0, exp=1e12),
        token(iat=[], exp={}),
        "a.bnVsbA.c",
        f"a.{base64.urlsafe_b64encode(b'[' * 100_000).decode()}.c",
    ],
)
def test_token_life_unreadable(text: str) -> None:
    """A token that does not tell a sensible life of its own is taken to live for an hour."""
    assert lease.token_life(text) == 3600


@given(st.text())
def test_token_life_of_anything(text: str) -> None:
    """Whatever the token is, its life is between a minute and a day."""
    assert 60 <= lease.token_life(text) <= 86400


@given(st.integers())
def test_renewal_is_spread(seed: int) -> None:
    """A token is renewed at 80 to 85 % of its life, and a room of two hours before 110 minutes and a half."""
    random = Random(seed)
    assert 2880 <= lease.renewal(3600, lease.RENEW_TOKEN, random) <= 3060
    assert 6480 <= lease.renewal(7200, lease.RENEW_ROOM, random) <= 6630


def test_granted() -> None:
    """What is granted is held, and due after the time given."""
    leased: Leased[str] = Leased()
    assert leased.value is None
    assert leased.due == math.inf

    leased.grant("a", now=100.0, renew_after=50.0)

    assert leased.value == "a"
    assert leased.due == 150.0


def test_refused() -> None:
    """What is refused is dropped, so that a new one is fetched."""
    leased: Leased[str] = Leased()
    leased.grant("a", now=0.0, renew_after=50.0)

    assert leased.refuse(now=3000.0) == 0.2

    assert leased.value is None
    assert leased.due == math.inf


def test_fresh_ones_refused() -> None:
    """After two fresh ones in a row the third is kept: each new one leaves something on the server."""
    leased: Leased[str] = Leased()
    leased.grant("a", now=0.0)
    assert leased.refuse(now=1.0) is not None
    leased.grant("b", now=2.0)
    assert leased.refuse(now=3.0) is not None
    leased.grant("c", now=4.0)

    assert leased.refuse(now=5.0) is None

    assert leased.value == "c"
    assert leased.refuse(now=200.0) is None
    assert leased.refuse(now=304.0) is not None


def test_old_ones_refused() -> None:
    """What had lived for a minute before it was refused says nothing about the next one."""
    leased: Leased[str] = Leased()
    for now in (0.0, 100.0, 200.0, 300.0):
        leased.grant("a", now=now)
        assert leased.refuse(now=now + 61.0) is not None


def test_fresh_ones_refused_after_an_old_one() -> None:
    """An old one that was refused counts as the first, at whatever time: one fresh one more is tried, and then none."""
    leased: Leased[str] = Leased()
    leased.grant("a", now=9_000.0)
    pauses = [leased.refuse(now=9_060.0)]
    for now in (9_061.0, 9_063.0):
        leased.grant("b", now=now)
        pauses.append(leased.refuse(now=now + 1.0))
    assert [pause is None for pause in pauses] == [False, False, True]


def test_a_minute_old_is_not_fresh() -> None:
    """Three in a row that had lived for exactly a minute are all replaced."""
    leased: Leased[str] = Leased()
    for now in (0.0, 100.0, 200.0):
        leased.grant("a", now=now)
        assert leased.refuse(now=now + 60.0) is not None


def test_newer() -> None:
    """Only what was granted after a time is newer than it; what was never granted is not."""
    leased: Leased[str] = Leased()
    assert not leased.is_newer_than(0.0)
    leased.grant("a", now=10.0)
    assert [leased.is_newer_than(when) for when in (9.0, 10.0, 11.0)] == [True, False, False]


def test_accepted() -> None:
    """An acceptance makes the next refusal the first again."""
    leased: Leased[str] = Leased()
    for now in (0.0, 1.0):
        leased.grant("a", now=now)
        assert leased.refuse(now=now) is not None
    leased.grant("b", now=2.0)

    leased.accept()

    assert leased.refuse(now=3.0) is not None


def test_accepted_once_and_then_refused() -> None:
    """When each new one is accepted once and then refused, they are had ever more slowly, at most every 5 min."""
    leased: Leased[str] = Leased()
    pauses = []
    for now in range(0, 3600, 100):
        leased.grant("a", now=float(now))
        leased.accept()
        pauses.append(leased.refuse(now=float(now)))
    assert pauses[:3] == pytest.approx([0.2, 0.34, 0.578])
    assert pauses[-1] == 300
    leased.grant("a", now=99_999.0)
    assert leased.refuse(now=99_999.0) == 0.2
    leased.grant("a", now=99_999.0 + 3600.0)
    leased.accept()
    assert leased.refuse(now=99_999.0 + 3600.0) == pytest.approx(0.34)


def test_repr() -> None:
    """The `repr` shows whether something is granted, not what."""
    leased: Leased[str] = Leased()
    assert repr(leased) == "<Leased none, due at inf>"
    leased.grant("s3cret", now=0.0, renew_after=9.0)
    assert repr(leased) == "<Leased granted, due at 9>"
