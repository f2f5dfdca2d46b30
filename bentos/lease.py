"""Lease: which of several processes may do a thing now; a Redis key with a time to live and a growing number.

    lease = Lease(client, "candlewick:publisher", owner="host-123")
    if lease.hold(monotonic_s):          # take it, or renew it; call at least every TTL / 3
        …                                # true until `lease.is_held(monotonic_s)` says otherwise

The holder stops by its own clock a margin before the key can expire, so two never act at once even when one is
cut off from Redis. `fence` grows with every new holder: a later one outranks what an earlier one left behind.
"""

from __future__ import annotations

from typing import Any

from redis.exceptions import RedisError

TTL_S = 6.0
MARGIN_S = 2.0
"""Stop this long before the key expires: a pause of the process must fit in it."""

# Take when free, renew when ours; returns the fence, or 0 when another holds it.
TAKE = """
local holder = redis.call('HGET', KEYS[1], 'owner')
if not holder then
  local fence = redis.call('INCR', KEYS[2])
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', fence)
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return fence
end
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return tonumber(redis.call('HGET', KEYS[1], 'fence'))
end
return 0
"""
RELEASE = "if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Lease:
    """One process's view of the lease. Times are of a monotonic clock, seconds."""

    def __init__(self, client: Any, key: str, owner: str, ttl_s: float = TTL_S) -> None:
        self._client, self._key, self._owner, self._ttl_s = client, key, owner, ttl_s
        self._until_s = float("-inf")
        self.fence = 0
        self.fault: str | None = None
        """Why Redis could not be asked the last time."""

    def hold(self, now_s: float) -> bool:
        """Take or renew. A Redis that does not answer renews nothing; what was held ends by the clock."""
        try:
            ttl_ms = int(self._ttl_s * 1e3)
            fence = int(self._client.eval(TAKE, 2, self._key, f"{self._key}:fence", self._owner, ttl_ms))
        except RedisError as error:
            self.fault = f"{type(error).__name__}: {error}"
            return self.is_held(now_s)
        self.fault = None
        if fence:
            self.fence, self._until_s = fence, now_s + self._ttl_s - min(MARGIN_S, self._ttl_s / 3)
        else:
            self._until_s = float("-inf")
        return self.is_held(now_s)

    def is_held(self, now_s: float) -> bool:
        return now_s < self._until_s

    def release(self) -> None:
        """Give it back at once, so that a stand-by need not wait for the TTL."""
        self._until_s = float("-inf")
        self._client.eval(RELEASE, 1, self._key, self._owner)
