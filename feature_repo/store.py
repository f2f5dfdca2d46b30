"""Store: the only door to the online and offline feature stores.

    store = FeatureStore.open(settings)
    store.write([OnlineWrite(row, sequence, mirrors)])      # atomic, newest (ts_event, created) wins
    store.read("BTCUSDT").row                               # one HMGET
    store.history(entities, "forecast_bar_v1")              # as known at each decision time, through Feast

Online writes and reads use Feast's own bytes without Feast, which costs seconds to import; `history` and
`online` import it when called. Whatever cannot be reached is `StoreUnavailable`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import NoScriptError

from feature_repo.contracts import NANOS, StoreUnavailable
from feature_repo.history import MIRROR_WINDOWS
from feature_repo.newest_wins.script import CHUNK, NEWEST_WINS, Call, arguments, run, sha
from feature_repo.online_row import (
    CONTEXT_FIELDS,
    PLAN,
    SLOW_FIELDS,
    VERSION_FIELDS,
    Minutes,
    OnlineContext,
    OnlineRow,
    OnlineWrite,
    Words,
    check_finite,
    check_times,
    check_write,
    context_values,
    parse,
    parse_context,
    parse_slow,
    parse_version,
    row_words,
    slow_values,
)
from feature_repo.redis_client import Wire, available, connect, connect_async
from feature_repo.redis_layout import encode_time, entity_key, framed, mirror_key, packed, shown, version
from feature_repo.settings import Settings
from feature_repo.slow_features import SlowRow
from feature_repo.unreadable import UnreadableRow
from feature_repo.views import ENTITY, MIRROR_TTL_S, PROJECT, STORED_VIEWS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AsyncReader", "FeatureStore", "OnlineRow", "OnlineWrite"]


@dataclass
class FeatureStore:
    """Online by Redis, offline by the lake, both under Feast's definitions. Safe to share between threads."""

    settings: Settings
    client: Any = field(repr=False)
    """Reads."""
    writer: Any = field(default=None, repr=False)
    """Writes, as the user who may; without one this store only reads."""
    clock_ns: Callable[[], int] = field(default=time.time_ns, repr=False)
    """What rows ahead of their time, and ages through Feast's SDK, are judged by."""
    _feast: Any = field(default=None, repr=False)
    _minutes: dict[str, Minutes] = field(default_factory=dict, init=False, repr=False)
    """What was sent last of each symbol's sequence. When it is not what Redis holds, Redis says so."""

    @classmethod
    def open(cls, settings: Settings, clock_ns: Callable[[], int] = time.time_ns) -> FeatureStore:
        """Nothing is connected before the first call."""
        client = connect(settings.redis)
        same = settings.redis_writer == settings.redis
        return cls(settings, client, client if same else connect(settings.redis_writer), clock_ns)

    def with_clock(self, clock_ns: Callable[[], int]) -> FeatureStore:
        """The same store by another clock: a row of the past is young at its own time."""
        return replace(self, clock_ns=clock_ns, _feast=None)

    def write(self, writes: Sequence[OnlineWrite]) -> int:
        """Write rows, each atomically with all its views and mirror keys. Returns how many were news.

        A row that is not newer than what is held, by (ts_event, created), changes nothing. Raises `InvalidMessage`,
        and nothing is stored, when one of them is no row: a value that is not finite, a time in another unit or ahead
        of the clock, a symbol that is no instrument's id.
        """
        if not writes:
            return 0
        now_ns = self.clock_ns()
        for write in writes:
            check_write(write, now_ns)
        words = [self._words(write) for write in writes]
        calls = [_framed(write, told, self.settings.namespace) for write, told in zip(writes, words, strict=True)]
        with available(self._writer_url):
            counts = self._run_all(calls)
            if min(counts) < 0:
                # Another writer, or a Redis that lost what it held: these sequences are sent whole.
                again = [write for write, count in zip(writes, counts, strict=True) if count < 0]
                counts += self._run_all([_framed(w, row_words(w), self.settings.namespace) for w in again])
            return sum(count > 0 for count in counts)

    def write_context(
        self, symbol: str, values: Mapping[str, float | None], ts_event_ns: int, created_ns: int,
    ) -> bool:
        """Write the slow view `volatility_context`; true when it was news. The lake's row is its writer's task.

        Raises `InvalidMessage` as `write` does.
        """
        check_times(symbol, ts_event_ns, created_ns, self.clock_ns())
        check_finite(symbol, values)
        told = arguments(
            version(ts_event_ns, created_ns), encode_time(ts_event_ns // 1000), context_values(values),
        )
        with available(self.settings.redis_writer):
            return run(self.writer, [Call([self._key(symbol)], told)])[0] > 0

    def write_slow(self, row: SlowRow) -> bool:
        """Write a row of a slow view; true when it was news. The lake's row is its writer's task.

        Raises `InvalidMessage` as `write` does.
        """
        check_times(row.symbol, row.ts_event, row.created, self.clock_ns())
        check_finite(row.symbol, row.values)
        told = arguments(version(row.ts_event, row.created), encode_time(row.ts_event // 1000), slow_values(row))
        with available(self.settings.redis_writer):
            return run(self.writer, [Call([self._key(row.symbol)], told)])[0] > 0

    def read(self, symbol: str) -> OnlineRow | None:
        """The newest whole row of a symbol by one HMGET; null where there is none. Its age is the caller's to judge."""
        with available(self.settings.redis):
            return parse(symbol, self._reads.ask(_row_command(symbol, self.settings.namespace)))

    def read_slow(self, symbol: str) -> dict[str, SlowRow | UnreadableRow | None]:
        """Slow view (its lake zone's name) → its newest row as it is held, however old; null where there is none.

        `created` is in whole microseconds, rounded up. What is no row is given as what is wrong with it, by view.
        """
        with available(self.settings.redis):
            return parse_slow(symbol, self.client.hmget(self._key(symbol), SLOW_FIELDS))

    def read_context(self, symbol: str) -> OnlineContext | None:
        """`volatility_context` as it is held, however old; null where there is none. Raises `UnreadableRow`."""
        with available(self.settings.redis):
            return parse_context(symbol, self.client.hmget(self._key(symbol), CONTEXT_FIELDS))

    def read_mirrors(self, symbol: str) -> dict[str, str | None]:
        """Window → the text of its mirror key, all of one moment; null where there is none.

        Bytes that are no text are given as escapes: whoever reads JSON sees that it is none.
        """
        keys = [mirror_key(symbol, window, self.settings.namespace) for window in MIRROR_WINDOWS]
        with available(self.settings.redis):
            found = self.client.mget(keys)
        return {window: None if text is None else text.decode(errors="backslashreplace")
                for window, text in zip(MIRROR_WINDOWS, found, strict=True)}

    def place(self, symbol: str) -> str:
        """The key of a symbol's hash as `redis-cli` takes it, to look at what cannot be read."""
        return shown(self._key(symbol))

    def version(self, symbol: str) -> tuple[int, int] | None:
        """(ts_event, created) in ns of the newest row; null where there is none."""
        with available(self.settings.redis):
            return parse_version(self._reads.ask(_version_command(symbol, self.settings.namespace)))

    def forget(self, symbols: Sequence[str]) -> int:
        """Delete a replay's rows and mirror keys. Returns how many keys there were."""
        name = self.settings.namespace
        assert name, "the live rows are not a replay's to delete"
        keys = [key for s in symbols for key in (_key(s, name), *(mirror_key(s, w, name) for w in MIRROR_WINDOWS))]
        with available(self.settings.redis_writer):
            return int(self.writer.delete(*keys)) if keys else 0

    def versions(self, symbols: Sequence[str]) -> dict[str, tuple[int, int] | None]:
        """`version` of several symbols in one round trip."""
        with available(self.settings.redis), self.client.pipeline(transaction=False) as pipe:
            for symbol in symbols:
                pipe.hmget(self._key(symbol), VERSION_FIELDS)
            return dict(zip(symbols, map(parse_version, pipe.execute()), strict=True))

    def history(self, entities: pd.DataFrame, service: str | Sequence[str]) -> pd.DataFrame:
        """Features as known at each decision time: `entities` with the service's features beside them.

        `entities` has `symbol` and `event_timestamp` (the decision time, with a time zone); rows and their order
        are kept, unmatched ones with nulls. `service` is a feature service's name or `view:feature` references.
        """
        store = self.feast
        features = store.get_feature_service(service) if isinstance(service, str) else list(service)
        found: pd.DataFrame = store.get_historical_features(entity_df=entities, features=features).to_df()
        return found

    def online(self, symbols: Sequence[str], service: str | Sequence[str]) -> dict[str, list[Any]]:
        """The newest values through Feast's SDK, one list per column; null where no row is younger than its TTL."""
        store = self.feast
        features = store.get_feature_service(service) if isinstance(service, str) else list(service)
        with available(self.settings.redis):
            found = store.get_online_features(features=features, entity_rows=[{ENTITY: s} for s in symbols])
            return dict(found.to_dict())

    def _words(self, write: OnlineWrite) -> Words:
        words = row_words(write, self._minutes.get(write.row.symbol))
        if words.minutes is not None:
            self._minutes[write.row.symbol] = words.minutes
        return words

    def _run_all(self, calls: Sequence[Framed]) -> list[int]:
        return [n for start in range(0, len(calls), CHUNK) for n in self._run(calls[start : start + CHUNK])]

    def _run(self, calls: Sequence[Framed]) -> list[int]:
        """What `newest_wins.script.run` does, for calls that are framed."""
        answers = self._writes.ask_all([_command(_BY_SHA, call) for call in calls])
        for place, answer in enumerate(answers):
            if isinstance(answer, NoScriptError):
                answers[place] = self._writes.ask(_command(_BY_TEXT, calls[place]))
            elif isinstance(answer, Exception):
                raise answer
        return [int(answer) for answer in answers]

    def _key(self, symbol: str) -> bytes:
        return _key(symbol, self.settings.namespace)

    @cached_property
    def _writer_url(self) -> str:
        return self.settings.redis_writer  # made anew each time it is asked for

    @cached_property
    def _reads(self) -> Wire:
        return Wire(self.client)

    @cached_property
    def _writes(self) -> Wire:
        return self._reads if self.writer is self.client else Wire(self.writer)

    @property
    def feast(self) -> Any:
        """Feast's own store over these settings, imported on first use; `StoreUnavailable` before `feast apply`."""
        if self._feast is None:
            registry = self.settings.registry
            if not registry.exists():
                raise StoreUnavailable(f"registry expected at {registry}, found none; `feast apply` in feature_repo")
            from feature_repo.feast_config import open_feast

            self._feast = open_feast(self.settings)
            online: Any = self._feast._get_provider().online_store  # noqa: SLF001  Feast has no other way to it
            online.now = lambda: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.clock_ns() // 1000)
        return self._feast


@dataclass
class AsyncReader:
    """The online reads of `FeatureStore` for an event loop."""

    settings: Settings
    client: Any = field(repr=False)

    @classmethod
    def open(cls, settings: Settings) -> AsyncReader:
        return cls(settings, connect_async(settings.redis))

    async def read(self, symbol: str) -> OnlineRow | None:
        """As `FeatureStore.read`."""
        with available(self.settings.redis):
            return parse(symbol, await self.client.hmget(_key(symbol, self.settings.namespace), PLAN.fields))

    async def version(self, symbol: str) -> tuple[int, int] | None:
        """As `FeatureStore.version`."""
        with available(self.settings.redis):
            return parse_version(await self.client.hmget(_key(symbol, self.settings.namespace), VERSION_FIELDS))

    async def close(self) -> None:
        await self.client.aclose()


class Framed(NamedTuple):
    """What follows a script in EVALSHA: how many words, and the words in parts, as they go over the wire."""

    words: int
    parts: Sequence[bytes]


_TOLD_OF = [framed(MIRROR_TTL_S, 0, views) for views in range(len(STORED_VIEWS))]
"""How long mirror keys live, that the hash lives for ever, and how many views come."""
_BY_SHA, _BY_TEXT = framed("EVALSHA", sha(NEWEST_WINS)), framed("EVAL", NEWEST_WINS)


def _command(script: bytes, call: Framed) -> bytes:
    # Joined once, because of the sequence's 14 KB.
    return b"".join((b"*%d\r\n" % (2 + call.words), script, *call.parts))


def _framed(write: OnlineWrite, words: Words, namespace: str) -> Framed:
    """The keys and `newest_wins.script.arguments` of a row, made as what goes over the wire."""
    row, heads = write.row, words.heads
    mirrors = [_mirror(values, row.ts_event) for values in write.mirrors.values()]
    of_keys, keys = _framed_keys(row.symbol, namespace, tuple(write.mirrors))
    told = framed(version(row.ts_event, row.created), encode_time(row.ts_event // 1000))
    before = (keys, told, _TOLD_OF[heads.views], words.kept, framed(*mirrors), heads.framed)
    return Framed(of_keys + 7 + len(mirrors) + heads.words, (*before, *words.parts))


@lru_cache(4_096)
def _framed_keys(symbol: str, namespace: str, windows: tuple[str, ...]) -> tuple[int, bytes]:
    mirrors = [mirror_key(symbol, window, namespace) for window in windows]
    return 2 + len(mirrors), framed(1 + len(mirrors), _key(symbol, namespace), *mirrors)


def _mirror(values: Mapping[str, float | None], ts_event: int) -> str:
    """What `json.dumps` gives, in a third of the time.

    >>> _mirror({"vwap": 60_000.25, "volatility": None}, 7 * NANOS)
    '{"vwap": 60000.25, "volatility": null, "timestamp": 7, "ttl": 300}'
    """
    known = "".join([f'"{name}": {"null" if value is None else repr(value)}, ' for name, value in values.items()])
    return f'{{{known}"timestamp": {ts_event // NANOS}, "ttl": {MIRROR_TTL_S}}}'


@lru_cache(4_096)
def _row_command(symbol: str, namespace: str) -> bytes:
    return packed("HMGET", _key(symbol, namespace), *PLAN.fields)


@lru_cache(4_096)
def _version_command(symbol: str, namespace: str) -> bytes:
    return packed("HMGET", _key(symbol, namespace), *VERSION_FIELDS)


@lru_cache(4_096)
def _key(symbol: str, namespace: str) -> bytes:
    # Feast's own separation of projects: a replay's rows are those of another project. Its name comes first, so that no
    # live key is the beginning of a replay's: readers watch theirs by prefix.
    return entity_key(f"{namespace}_{PROJECT}" if namespace else PROJECT, ENTITY, symbol)
