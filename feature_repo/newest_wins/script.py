"""Script: the one way an online row is written, an atomic comparison of (event time, created) inside Redis.

    >>> version(2_000, 1) < version(2_000, 2_001) < version(3_000, 0)
    True
    >>> arguments(version(0, 0), b"time", [("driver_stats", [b"field", b"value"])])[5:]
    ['', 1, 'driver_stats', 2, b'field', b'value']

    run(client, [Call([key], arguments(version_bytes, event_time, views))])      # how many views each call wrote

The rows are Feast's: one hash per entity key, the views' fields and `_ts:<view>` as Feast's own store writes them.
Beside them stands `_version:<view>`, which Feast does not read: digits of fixed width, so that their order as text is
that of the times. After them may stand a digest of what seldom changes in the view: a writer that knows it leaves that
part out, and is told (-1, nothing is written) when another digest, or none, is held. Running a call twice changes
nothing, so whatever fails may be run again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError

CHUNK = 200
"""Scripts in one pipeline: enough to hide the round trip, few enough to let readers in between."""

GONE_FIELD = "\\252\\085\\201\\099"
"""`forecast_sequence:values` as Lua writes its four bytes: the one view that comes with a digest was one value once."""

NEWEST_WINS = """
-- KEYS: the entity's hash, then mirror keys.  ARGV: version, event time, seconds that mirror keys live, seconds that
-- the hash lives (0: for ever), number of views, a digest of what seldom changes in the last view, or nothing, whether
-- that is here; a value for each mirror key; for each view its name and how many of the arguments after them are its;
-- these: field, value, ...  A view is written when its version is newer than the one held.
local views, head, asked = tonumber(ARGV[5]), #KEYS + 5, {}
for i = 1, views do
  asked[i] = '_version:' .. ARGV[head + 2 * i]
end
local held, written = redis.call('HMGET', KEYS[1], unpack(asked)), 0

local function of_stock(ts)
  -- Written by Feast's own store, which keeps no version: a google.protobuf.Timestamp, known before anything else.
  local parts, at = {0, 0}, 1
  while at <= #ts do
    local field, value, scale = math.floor(ts:byte(at) / 8), 0, 1
    repeat
      at = at + 1
      value = value + ts:byte(at) % 128 * scale
      scale = scale * 128
    until ts:byte(at) < 128
    parts[field], at = value, at + 1
  end
  if parts[1] > 9999999999 then return '' end
  return string.format('%010d%06d.%016d', parts[1], math.floor(parts[2] / 1000), 0)
end

for i = 1, views do
  local version = held[i]
  if not version then
    local stock = redis.call('HGET', KEYS[1], '_ts:' .. ARGV[head + 2 * i])
    version = stock and of_stock(stock)
  end
  -- What is held with a digest comes after the same without one.
  if not version or version < ARGV[1] then
    -- Nothing is written without what is not here: another digest, or none, is held since.
    if i == views and ARGV[7] == '0' and (version or ''):sub(#ARGV[1] + 2) ~= ARGV[6] then return -1 end
    held[i], written = true, written + 1
  else
    held[i] = false
  end
end
if written == 0 then return 0 end

-- Where every view is news, which is nearly always, the arguments are handed on as they came.
local news, from, size = ARGV, head + 2 * views + 2, #ARGV
if written < views then
  local at = from
  news, from, size = {}, 1, 0
  for i = 1, views do
    local count = tonumber(ARGV[head + 2 * i + 1])
    if held[i] then
      for j = 0, count - 1 do
        news[size + 1 + j] = ARGV[at + j]
      end
      size = size + count
    end
    at = at + count
  end
end
for i = 1, views do
  if held[i] then
    news[size + 1], news[size + 2], news[size + 3], news[size + 4] =
      '_ts:' .. ARGV[head + 2 * i], ARGV[2], asked[i], ARGV[1]
    size = size + 4
  end
end
if held[views] and ARGV[6] ~= '' then
  news[size] = ARGV[1] .. '.' .. ARGV[6]
  -- Who brings both parts of the view takes what was written of it as one: nobody reads that, and nothing else ends it.
  if ARGV[7] ~= '0' then redis.call('HDEL', KEYS[1], '""" + GONE_FIELD + """') end
end
-- Lua hands over a few thousand arguments at most.
for first = from, size, 4000 do
  redis.call('HSET', KEYS[1], unpack(news, first, math.min(first + 3999, size)))
end
-- Where a view holds what is newer, the mirrors do too.
for i = 2, written == views and #KEYS or 1 do
  redis.call('SET', KEYS[i], ARGV[6 + i], 'EX', ARGV[3])
end
if ARGV[4] ~= '0' then
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
return written
"""

FORGET_VIEW = """
-- KEYS: the entity's hash.  ARGV: a view, then its fields.  The hash goes with its last view.
if redis.call('HDEL', KEYS[1], '_ts:' .. ARGV[1], '_version:' .. ARGV[1]) == 0 then return 0 end
for from = 2, #ARGV, 4000 do
  redis.call('HDEL', KEYS[1], unpack(ARGV, from, math.min(from + 3999, #ARGV)))
end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if field:sub(1, 4) == '_ts:' then return 1 end
end
redis.call('DEL', KEYS[1])
return 1
"""


class Call(NamedTuple):
    """One run of a script: what it touches and what it is told."""

    keys: Sequence[bytes | str]
    arguments: Sequence[bytes | str | int]
    script: str = NEWEST_WINS


WHOLE: tuple[str, int] = ("", 1)
"""Said of a call that brings all of its last view, and keeps no digest of a part of it."""


def version(ts_event_ns: int, created_ns: int) -> bytes:
    """What is compared: event time, then created (rounded up), both in microseconds."""
    return b"%016d.%016d" % (ts_event_ns // 1000, -(-created_ns // 1000))


def event_time_field(view: str) -> bytes:
    return f"_ts:{view}".encode()


def version_field(view: str) -> bytes:
    return f"_version:{view}".encode()


def arguments(
    version_bytes: bytes, event_time: bytes, views: Sequence[tuple[str, Iterable[bytes]]],
    mirrors: Sequence[str] = (), mirror_ttl_s: int = 300, key_ttl_s: int = 0,
) -> list[bytes | str | int]:
    """ARGV of `NEWEST_WINS`. A view is its name and its fields and values in turn; `event_time` is Feast's bytes."""
    flat = [(name, list(pairs)) for name, pairs in views]
    heads = [word for name, pairs in flat for word in (name, len(pairs))]
    told = [version_bytes, event_time, mirror_ttl_s, key_ttl_s, len(flat), *WHOLE, *mirrors, *heads]
    return [*told, *(word for _, pairs in flat for word in pairs)]


def run(client: Any, calls: Sequence[Call]) -> list[int]:
    """Run each call once, several in one round trip; returns what each answered. Raises what Redis answered."""
    if len(calls) == 1 or not _can_pipeline(client):
        return [_run_one(client, call) for call in calls]
    answers: list[int] = []
    for start in range(0, len(calls), CHUNK):
        part = calls[start : start + CHUNK]
        with client.pipeline(transaction=False) as pipe:
            for call in part:
                pipe.evalsha(sha(call.script), len(call.keys), *call.keys, *call.arguments)
            found = pipe.execute(raise_on_error=False)
        answers += [
            _run_one(client, call) if isinstance(answer, NoScriptError) else _answer(answer)
            for call, answer in zip(part, found, strict=True)
        ]
    return answers


async def run_async(client: Any, calls: Sequence[Call]) -> list[int]:
    """The same for an event loop."""
    if len(calls) == 1 or not _can_pipeline(client):
        return [await _run_one_async(client, call) for call in calls]
    answers: list[int] = []
    for start in range(0, len(calls), CHUNK):
        part = calls[start : start + CHUNK]
        async with client.pipeline(transaction=False) as pipe:
            for call in part:
                pipe.evalsha(sha(call.script), len(call.keys), *call.keys, *call.arguments)
            found = await pipe.execute(raise_on_error=False)
        for call, answer in zip(part, found, strict=True):
            again = isinstance(answer, NoScriptError)
            answers.append(await _run_one_async(client, call) if again else _answer(answer))
    return answers


def _run_one(client: Any, call: Call) -> int:
    try:
        return int(client.evalsha(sha(call.script), len(call.keys), *call.keys, *call.arguments))
    except NoScriptError:
        return int(client.eval(call.script, len(call.keys), *call.keys, *call.arguments))


async def _run_one_async(client: Any, call: Call) -> int:
    try:
        return int(await client.evalsha(sha(call.script), len(call.keys), *call.keys, *call.arguments))
    except NoScriptError:
        return int(await client.eval(call.script, len(call.keys), *call.keys, *call.arguments))


def _can_pipeline(client: Any) -> bool:
    # redis-py's cluster pipeline refuses EVALSHA; each call then goes to the node that owns its key.
    return "Cluster" not in type(client).__name__


def _answer(answer: Any) -> int:
    if isinstance(answer, Exception):
        raise answer
    return int(answer)


_SHAS = {text: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for text in (NEWEST_WINS, FORGET_VIEW)}


def sha(script: str) -> str:
    """What EVALSHA calls it."""
    return _SHAS[script]
