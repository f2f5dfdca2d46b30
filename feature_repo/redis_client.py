"""Redis client: connections with bounded waiting, and what goes wrong with them in our words.

    client = connect("redis://127.0.0.1:16379/0")
    with available("redis://127.0.0.1:16379/0"):
        client.ping()
    Wire(client).ask(packed("HMGET", "key", "field"))      # the same without redis-py's work around it


Nothing here waits longer than `TIMEOUT_S` for an answer; a Redis that cannot be reached, or that lets us not do what we
ask, is `StoreUnavailable`.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

import hiredis
import redis
import redis.asyncio
from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import DefaultParser
from redis.retry import Retry

from feature_repo.contracts import InvalidMessage, StoreUnavailable

CONNECT_TIMEOUT_S = 0.5
TIMEOUT_S = 1.0
_TIMEVAL = struct.pack("ll", *divmod(round(TIMEOUT_S * 1e6), 10**6))
_UNAVAILABLE = (
    exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ReadOnlyError, exceptions.OutOfMemoryError,
    exceptions.ClusterDownError, exceptions.MasterDownError,
)
_CANNOT_NOW = ("MISCONF", "NOREPLICAS")
"""How an answer begins when Redis is there and cannot write: its disk is full, or its replicas are away."""
_OF_ANOTHER_TYPE = "WRONGTYPE"
"""How an answer begins where somebody has put something else under a row's key: it is no row, and Redis is there."""
# One retry at once: a connection that idled while Redis restarted is replaced, a Redis that is down is not waited for.
_OPTIONS: dict[str, Any] = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": TIMEOUT_S}


def connect(url: str) -> redis.Redis:
    """A client of the online store; connects on first use."""
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 1), **_OPTIONS)


def connect_async(url: str) -> redis.asyncio.Redis:
    """The same for an event loop."""
    from redis.asyncio.retry import Retry as AsyncRetry

    return redis.asyncio.Redis.from_url(url, retry=AsyncRetry(NoBackoff(), 1), **_OPTIONS)


class Wire:
    """A client's packed commands on connections of their own. Safe to share between threads.

    redis-py takes a connection from its pool, asks the socket whether it is still open, packs, counts and gives it
    back: more work than Redis has with the answer. A connection that was closed while it idled is met here when it is
    used, and replaced as after any other loss: by the client's retry. So what is asked must be safe to ask twice.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._idle: list[_Line] = []  # append and pop are atomic
        self._pid = os.getpid()

    def ask(self, command: bytes) -> Any:
        """What Redis answers. Raises what redis-py does."""
        [answer] = self.ask_all([command])
        if isinstance(answer, exceptions.ResponseError):
            raise answer
        return answer

    def ask_all(self, commands: Sequence[bytes]) -> list[Any]:
        """What Redis answers to each, in one round trip; an error it answers with is an answer."""
        line = self._take()
        try:
            answers = line.retry.call_with_retry(lambda: line.ask_all(commands), lambda _: line.close())
        except BaseException:
            line.close()  # an answer that nobody took would be the next one's
            raise
        if any(isinstance(answer, exceptions.ReadOnlyError) for answer in answers):
            line.close()  # it became a replica: the next connection may lead to the primary
        self._idle.append(line)
        return answers

    def _take(self) -> _Line:
        if self._pid != os.getpid():  # a fork shares its parent's sockets
            self._idle, self._pid = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return _Line(self._client.connection_pool.make_connection())


_NOT_YET = object()
_MOST_AT_ONCE = 65_536


class _Line:
    """One connection, opened by redis-py; what goes over it goes past redis-py."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.retry: Retry = connection.retry
        self._socket: Any = None

    def ask_all(self, commands: Sequence[bytes]) -> list[Any]:
        if self._socket is None:
            self._open()
        try:
            self._socket.sendall(b"".join(commands))
            return [self._answer() for _ in commands]
        except (TimeoutError, BlockingIOError) as error:
            raise exceptions.TimeoutError(f"expected an answer within {TIMEOUT_S:g} s, found none") from error
        except OSError as error:
            raise exceptions.ConnectionError(str(error)) from error

    def close(self) -> None:
        self._socket = None
        self._connection.disconnect()

    def _open(self) -> None:
        # Once: sending would try to connect twice in each of the retry's rounds.
        self._connection.connect_check_health(check_health=False, retry_socket_connect=False)
        opened = self._connection._get_socket()  # noqa: SLF001  redis-py has no other way to it
        if type(opened) is socket.socket:
            # The kernel keeps the time: Python would ask it before each call whether the call may be made.
            opened.settimeout(None)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                opened.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL)
        self._reader = hiredis.Reader(
            protocolError=exceptions.InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=_NOT_YET,
        )
        self._socket = opened

    def _answer(self) -> Any:
        while (answer := self._reader.gets()) is _NOT_YET:
            data = self._socket.recv(_MOST_AT_ONCE)
            if not data:
                raise exceptions.ConnectionError("the connection was closed by the server")
            self._reader.feed(data)
        if isinstance(answer, exceptions.ConnectionError):
            raise answer  # it is loading its data, or lets nobody in: to redis-py no answer but a loss
        return answer


@contextmanager
def available(url: str) -> Iterator[None]:
    """Turns what redis-py raises when Redis cannot serve into `StoreUnavailable`, without the password.

    A key of another type than was asked for is `InvalidMessage`.
    """
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
    except exceptions.ResponseError as error:
        if str(error).startswith(_OF_ANOTHER_TYPE):
            raise InvalidMessage(f"expected the key's type, found {error}") from error
        if not str(error).startswith(_CANNOT_NOW):
            raise
        place = urlparse(url)
        raise StoreUnavailable(f"Redis expected to serve at {place.hostname}:{place.port}, found {error}") from error
