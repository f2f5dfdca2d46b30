"""Online store: Feast's Redis store in which the newest row wins, age is judged on read, and missing is missing.

    online_store:
      type: newest_wins.online_store.NewestWinsOnlineStore
      connection_string: localhost:6379
      writer_connection_string: localhost:6379,username=writer,password=${WRITER_PASSWORD}     # optional

Feast's own store reads the held time, compares in Python and writes: two writers can interleave and the older row
stay. Here one script compares and writes (`script.NEWEST_WINS`), the bytes are the same, and every way into the store
(materialize, push, write_to_online_store, the feature server) comes through `online_write_batch`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from feast import FeatureView, RepoConfig, utils
from feast.infra.online_stores.helpers import _mmh3, _redis_key, _redis_key_prefix, compute_versioned_name
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import Field, StrictStr, field_validator

from .script import (
    CHUNK,
    FORGET_VIEW,
    Call,
    arguments,
    event_time_field,
    run,
    run_async,
    version,
)

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
Found = tuple[datetime | None, dict[str, Value] | None]
Progress = Callable[[int], Any] | None
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCAN = 1_000
_KINDS = {field.name for field in Value.DESCRIPTOR.fields}
_GLOB = b"\\*?[]"


class RefusedRow(ValueError):
    """A row that may not be stored; none of its batch was."""


class NewestWinsOnlineStoreConfig(RedisOnlineStoreConfig):  # type: ignore[misc]
    """Feast's Redis configuration, and who may write, what is too old to be read and what is refused."""

    type: StrictStr = f"{__name__}.NewestWinsOnlineStore"
    writer_connection_string: StrictStr | None = Field(default=None, repr=False)
    """Like `connection_string`, for a user that may write; null: the same for both."""
    judge_age: bool = True
    """Whether a row older than its view's TTL reads as missing, status OUTSIDE_MAX_AGE."""
    refuse_before: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    """An event time before it is taken for one in another unit: integers are nanoseconds to Feast."""
    most_ahead_s: float | None = None
    """An event time further ahead of the clock is refused: it would win until it is reached. Null: any is taken."""
    refuse_not_finite: bool = False
    """Whether NaN and infinity are refused. (pandas' NaN is a null before it comes here.)"""

    @field_validator("skip_dedup")
    @classmethod
    def _compares(cls, value: bool) -> bool:
        if value:
            raise ValueError("skip_dedup: expected false, found true; this store always keeps the newest row")
        return value


class _Wanted(NamedTuple):
    """What is asked of one view: the entities' keys, and which of the answer's rows each of them fills."""

    table: Any
    features: list[str]
    fields: tuple[bytes, ...]
    keys: list[bytes]
    rows: tuple[list[int], ...]
    rows_in_all: int


class NewestWinsOnlineStore(RedisOnlineStore):  # type: ignore[misc]
    """Feast's layout and keys; writes by the newest-wins script, reads that judge age."""

    now: Callable[[], datetime] = staticmethod(lambda: datetime.now(UTC))
    """The clock that ages are judged by."""
    _writer: RedisOnlineStore | None = None

    # --- writing ----------------------------------------------------------------------------------------------------

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Progress,
    ) -> None:
        """Write rows whose (event time, created) is newer than what is held; without created it is the event time.

        Raises `RefusedRow` before anything is written when one of them may not be stored.
        """
        calls = self.calls(config, table, data)
        client = self._get_writer(config.online_store)
        for start in range(0, len(calls), CHUNK):
            part = calls[start : start + CHUNK]
            run(client, part)
            if progress:
                progress(len(part))

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Progress,
    ) -> None:
        """The same for an event loop."""
        calls = self.calls(config, table, data)
        client = await self._get_writer_async(config.online_store)
        for start in range(0, len(calls), CHUNK):
            part = calls[start : start + CHUNK]
            await run_async(client, part)
            if progress:
                progress(len(part))

    def calls(self, config: RepoConfig, table: FeatureView, data: Sequence[Row]) -> list[Call]:
        """The script's calls for the rows, in order. Raises `RefusedRow`."""
        kinds = {field.name: f"{field.dtype.to_value_type().name.lower()}_val" for field in table.features}
        now = self.now()
        for row in data:
            if reason := self.objection(config.online_store, kinds, row, now):
                raise RefusedRow(f"{table.name}, {_named(row[0])}: {reason}; nothing of the batch was stored")
        return [_call(config, _name(table, config), kinds, row) for row in data]

    def objection(
        self, settings: NewestWinsOnlineStoreConfig, kinds: Mapping[str, str], row: Row, now: datetime,
    ) -> str | None:
        """Why a row may not be stored. `kinds` is feature → the field of `Value` that its type is held in."""
        _, values, event_time, _ = row
        at = _aware(event_time)
        if at < settings.refuse_before:
            return f"event time expected after {settings.refuse_before:%Y-%m-%d}, found {at}; is it in another unit?"
        if settings.most_ahead_s is not None and at > now + timedelta(seconds=settings.most_ahead_s):
            return f"event time expected at most {settings.most_ahead_s:g} s ahead of {now}, found {at}"
        for name, value in values.items():
            kind, expected = value.WhichOneof("val"), kinds.get(name)
            if expected in _KINDS and kind not in (None, "null_val", expected):
                return f"{name}: expected {expected}, found {kind}"
            if settings.refuse_not_finite and kind is not None and not _is_finite(kind, value):
                return f"{name}: expected a finite number, found {getattr(value, kind)}"
        return None

    # --- reading ----------------------------------------------------------------------------------------------------

    def online_read(
        self, config: RepoConfig, table: FeatureView, entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[Found]:
        """For each entity (event time, features); (null, null) without a row, (event time, null) where it is too old.

        A feature that the stored row lacks is not among its features; one that is null is there, without a value.
        """
        wanted = _wanted(config, table, requested_features, entity_keys)
        return self._found(config, wanted, dict(self._read(config, _commands([wanted]))))

    async def online_read_async(
        self, config: RepoConfig, table: FeatureView, entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[Found]:
        """The same for an event loop."""
        wanted = _wanted(config, table, requested_features, entity_keys)
        return self._found(config, wanted, dict(await self._read_async(config, _commands([wanted]))))

    def _read_features_per_fv(
        self, config: RepoConfig, grouped_refs: Any, join_key_values: Any, entity_name_to_join_key_map: Any,
        *answer: Any,
    ) -> None:
        asked = _asked(config, grouped_refs, join_key_values, entity_name_to_join_key_map)
        self._answer(config, asked, dict(self._read(config, _commands(asked))), *answer)

    async def _read_features_per_fv_async(
        self, config: RepoConfig, grouped_refs: Any, join_key_values: Any, entity_name_to_join_key_map: Any,
        *answer: Any,
    ) -> None:
        asked = _asked(config, grouped_refs, join_key_values, entity_name_to_join_key_map)
        self._answer(config, asked, dict(await self._read_async(config, _commands(asked))), *answer)

    def _read(self, config: RepoConfig, commands: list[tuple[bytes, list[bytes]]]) -> Iterable[tuple[bytes, Any]]:
        replies = self._read_hash_fields(config, commands)
        return [(key, dict(zip(fields, reply, strict=True)))
                for (key, fields), reply in zip(commands, replies, strict=True)]

    async def _read_async(
        self, config: RepoConfig, commands: list[tuple[bytes, list[bytes]]],
    ) -> Iterable[tuple[bytes, Any]]:
        client = await self._get_client_async(config.online_store)
        async with client.pipeline(transaction=False) as pipe:
            for key, fields in commands:
                pipe.hmget(key, fields)
            replies = await pipe.execute()
        return [(key, dict(zip(fields, reply, strict=True)))
                for (key, fields), reply in zip(commands, replies, strict=True)]

    def _found(self, config: RepoConfig, wanted: _Wanted, held: Mapping[bytes, Mapping[bytes, Any]]) -> list[Found]:
        ttl = getattr(wanted.table, "ttl", None) if config.online_store.judge_age else None
        oldest = self.now() - ttl if ttl else None
        return [_row(wanted, held[key], oldest) for key in wanted.keys]

    def _answer(
        self, config: RepoConfig, asked: list[_Wanted], held: Mapping[bytes, Mapping[bytes, Any]], response: Any,
        *how: Any,
    ) -> None:
        for wanted in asked:
            found = self._found(config, wanted, held)
            utils._populate_response_from_feature_data(
                wanted.features, found, wanted.rows, response, how[0], wanted.table, wanted.rows_in_all, *how[1:],
            )
            too_old = [at for (event_time, values), rows in zip(found, wanted.rows, strict=True)
                       if event_time is not None and values is None for at in rows]
            for result in response.results[len(response.results) - len(wanted.features) :]:
                for at in too_old:
                    result.statuses[at] = FieldStatus.OUTSIDE_MAX_AGE

    # --- what is no longer wanted -----------------------------------------------------------------------------------

    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        """Delete a view's rows and versions of this project, each entity's in one step."""
        view = _name(table, config)
        words = [view, *(_mmh3(f"{view}:{field.name}") for field in table.features)]
        client = self._get_writer(config.online_store)
        run(client, [Call([key], words, FORGET_VIEW) for key in _keys(client, table.join_keys, config.project)])

    def delete_entity_values(self, config: RepoConfig, join_keys: list[str]) -> None:
        """Delete every row of this project that has these join keys."""
        client = self._get_writer(config.online_store)
        for key in list(_keys(client, join_keys, config.project)):
            client.delete(key)

    async def close(self) -> None:
        """Close the event loop's connections."""
        for store in (self, self._writer):
            if store is not None and store._client_async is not None:
                await store._client_async.aclose()
                store._client_async = None

    # --- who writes -------------------------------------------------------------------------------------------------

    def _get_writer(self, settings: NewestWinsOnlineStoreConfig) -> Any:
        if settings.writer_connection_string is None:
            return self._get_client(settings)
        self._writer = self._writer or RedisOnlineStore()
        return self._writer._get_client(_for_writer(settings))

    async def _get_writer_async(self, settings: NewestWinsOnlineStoreConfig) -> Any:
        if settings.writer_connection_string is None:
            return await self._get_client_async(settings)
        self._writer = self._writer or RedisOnlineStore()
        return await self._writer._get_client_async(_for_writer(settings))


def _for_writer(settings: NewestWinsOnlineStoreConfig) -> NewestWinsOnlineStoreConfig:
    changed: NewestWinsOnlineStoreConfig = settings.model_copy(
        update={"connection_string": settings.writer_connection_string},
    )
    return changed


def _name(table: Any, config: RepoConfig) -> str:
    name: str = compute_versioned_name(table, config.registry.enable_online_feature_view_versioning)
    return name


def _named(entity: EntityKey) -> str:
    values = (getattr(value, value.WhichOneof("val") or "", None) for value in entity.entity_values)
    return ", ".join(f"{name}={value!r}" for name, value in zip(entity.join_keys, values, strict=True))


def _call(config: RepoConfig, view: str, kinds: Mapping[str, str], row: Row) -> Call:
    """A row is written whole: a feature of the view that it lacks is null, not what an older row had there."""
    entity_key, values, event_time, created = row
    at_us, created_us = _micros(event_time), _micros(created or event_time)
    stamp = Timestamp(seconds=at_us // 1_000_000, nanos=at_us % 1_000_000 * 1_000)
    whole = {**dict.fromkeys(kinds, Value()), **values}
    pairs = [part for name, value in whole.items() for part in (_mmh3(f"{view}:{name}"), value.SerializeToString())]
    return Call(
        [_redis_key(config.project, entity_key, config.entity_key_serialization_version)],
        arguments(
            version(at_us * 1000, created_us * 1000), stamp.SerializeToString(), [(view, pairs)],
            key_ttl_s=config.online_store.key_ttl_seconds or 0,
        ),
    )


def _micros(at: datetime) -> int:
    return (_aware(at) - _EPOCH) // timedelta(microseconds=1)


def _aware(at: datetime) -> datetime:
    """A time without a zone is UTC, as Feast takes it."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _is_finite(kind: str, value: Value) -> bool:
    held = getattr(value, kind)
    if kind in ("double_val", "float_val"):
        return math.isfinite(held)
    if kind in ("double_list_val", "float_list_val", "double_set_val", "float_set_val"):
        return all(map(math.isfinite, held.val))
    return True


def _wanted(
    config: RepoConfig, table: Any, features: list[str] | None, entities: list[EntityKey],
    rows: Iterable[list[int]] | None = None, rows_in_all: int | None = None,
) -> _Wanted:
    names = list(features) if features else [field.name for field in table.features]
    view = _name(table, config)
    fields = (*(_mmh3(f"{view}:{name}") for name in names), event_time_field(view))
    keys = [_redis_key(config.project, entity, config.entity_key_serialization_version) for entity in entities]
    own = tuple(rows) if rows is not None else tuple([at] for at in range(len(keys)))
    return _Wanted(table, names, fields, keys, own, len(keys) if rows_in_all is None else rows_in_all)


def _asked(config: RepoConfig, grouped_refs: Any, join_key_values: Any, join_keys_by_entity: Any) -> list[_Wanted]:
    asked = []
    for table, features in grouped_refs:
        entities, rows, rows_in_all = utils._get_unique_entities(table, join_key_values, join_keys_by_entity)
        keys = utils._get_entity_key_protos(entities)
        asked.append(_wanted(config, table, features, keys, rows, rows_in_all))
    return asked


def _commands(asked: list[_Wanted]) -> list[tuple[bytes, list[bytes]]]:
    """One HMGET for an entity, whatever views are asked for: what it gives is of one moment."""
    fields: dict[bytes, dict[bytes, None]] = {}
    for wanted in asked:
        for key in wanted.keys:
            fields.setdefault(key, {}).update(dict.fromkeys(wanted.fields))
    return [(key, list(names)) for key, names in fields.items()]


def _row(wanted: _Wanted, held: Mapping[bytes, bytes | None], oldest: datetime | None) -> Found:
    written = held[wanted.fields[-1]]
    if not written:
        return None, None
    at = Timestamp.FromString(written).ToDatetime(tzinfo=UTC)
    if oldest is not None and at < oldest:
        return at, None
    values = zip(wanted.features, (held[field] for field in wanted.fields[:-1]), strict=True)
    return at, {name: Value.FromString(value) for name, value in values if value is not None}


def _keys(client: Any, join_keys: Sequence[str], project: str) -> Iterator[bytes]:
    """The entities' keys of exactly these join keys and this project: another's name may end like this one's."""
    prefix, end = _redis_key_prefix(list(join_keys)), project.encode()
    for key in client.scan_iter(match=_literal(prefix) + b"*" + _literal(end), count=_SCAN):
        if _after_values(key, len(prefix), len(join_keys)) == end:
            yield key


def _after_values(key: bytes, at: int, count: int) -> bytes | None:
    for _ in range(count):
        if len(key) < at + 8:
            return None
        at += 8 + int(struct.unpack_from("<I", key, at + 4)[0])
    return key[at:]


def _literal(text: bytes) -> bytes:
    return b"".join(b"\\" + bytes([byte]) if byte in _GLOB else bytes([byte]) for byte in text)
