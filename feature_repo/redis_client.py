"""Redis client: connections with bounded waiting, and what goes wrong with them in our words.

    client = connect("redis://127.0.0.1:16379/0")
    with available("redis://127.0.0.1:16379/0"):
        client.ping()

Nothing here waits longer than `TIMEOUT_S` for an answer; a Redis that cannot be reached, or that lets us not do what we
ask, is `StoreUnavailable`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

import redis
import redis.asyncio
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from feature_repo.contracts import StoreUnavailable

CONNECT_TIMEOUT_S = 0.5
TIMEOUT_S = 1.0
_UNAVAILABLE = (
    exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ReadOnlyError, exceptions.OutOfMemoryError,
)
# One retry at once: a connection that idled while Redis restarted is replaced, a Redis that is down is not waited for.
_OPTIONS: dict[str, Any] = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": TIMEOUT_S}


def connect(url: str) -> redis.Redis:
    """A client of the online store; connects on first use."""
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 1), **_OPTIONS)


def connect_async(url: str) -> redis.asyncio.Redis:
    """The same for an event loop."""
    from redis.asyncio.retry import Retry as AsyncRetry

    return redis.asyncio.Redis.from_url(url, retry=AsyncRetry(NoBackoff(), 1), **_OPTIONS)


@contextmanager
def available(url: str) -> Iterator[None]:
    """Turns what redis-py raises when Redis cannot serve into `StoreUnavailable`, without the password."""
    try:
        yield
    except _UNAVAILABLE as error:
        place = urlparse(url)
        raise StoreUnavailable(
            f"Redis expected at {place.hostname}:{place.port}, found {type(error).__name__}: {error}; "
            "is it running? `candlewick status` tells",
        ) from error
    except exceptions.NoPermissionError as error:
        place = urlparse(url)
        user = place.username or "default"
        raise StoreUnavailable(
            f"a user who may do it expected at {place.hostname}:{place.port}, found {user}: {error}; "
            "writing needs CANDLEWICK_REDIS_WRITER_URL or _PASSWORD",
        ) from error
