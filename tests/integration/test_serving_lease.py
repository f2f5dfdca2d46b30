"""Of two holders one acts, and only while Redis and its own clock agree that it may."""

from __future__ import annotations

import pytest
import redis

from bentos.lease import Lease
from tests.integration.serving_stack import until

pytestmark = pytest.mark.integration


@pytest.fixture
def client(redis_server: str) -> redis.Redis:
    return redis.Redis.from_url(redis_server)


def test_the_second_waits_until_the_first_gives_it_back(client: redis.Redis) -> None:
    first, second = Lease(client, "k", "a"), Lease(client, "k", "b")
    assert first.hold(0.0)
    assert not second.hold(0.0)
    assert first.hold(1.0)
    first.release()
    assert not first.is_held(1.0)
    assert second.hold(1.0)
    assert (first.fence, second.fence) == (1, 2)


def test_a_holder_that_died_is_followed_after_the_time_to_live(client: redis.Redis) -> None:
    # Long enough that a machine with much else to do asks for both within it.
    first, second = Lease(client, "k", "a", ttl_s=2.0), Lease(client, "k", "b", ttl_s=2.0)
    assert first.hold(0.0)
    assert not second.hold(0.0)
    until(lambda: not client.exists("k"))
    assert second.hold(2.1)
    assert not first.hold(2.1)


def test_a_holder_stops_by_its_own_clock_before_the_key_can_expire(client: redis.Redis) -> None:
    lease = Lease(client, "k", "a", ttl_s=6.0)
    assert lease.hold(100.0)
    assert lease.is_held(103.9)
    assert not lease.is_held(104.0)
    assert client.pttl("k") > 4_000


def test_releasing_what_another_holds_changes_nothing(client: redis.Redis) -> None:
    first, second = Lease(client, "k", "a"), Lease(client, "k", "b")
    assert first.hold(0.0)
    second.release()
    assert not second.hold(0.0)


def test_a_redis_that_is_away_gives_no_lease_and_says_why() -> None:
    lease = Lease(redis.Redis(port=1), "k", "a")
    assert not lease.hold(0.0)
    assert lease.fault is not None
    assert lease.fault.startswith("ConnectionError")
