"""An online store of anyone's on a Redis, with a clock that stands still.

    There(port).write(view(), (key(driver_id=1), 1.0, 60))     # a rate of 1.0, a minute old
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from feast import Entity, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64, Int64

from feature_repo.newest_wins.online_store import NewestWinsOnlineStore
from tests.bench.races import OURS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)


def key(**values: int | str) -> EntityKey:
    made = [Value(int64_val=v) if isinstance(v, int) else Value(string_val=v) for v in values.values()]
    return EntityKey(join_keys=list(values), entity_values=made)


def view(name: str = "stats", features: dict[str, Any] | None = None, ttl: timedelta | None = None) -> FeatureView:
    return FeatureView(
        name=name, entities=[DRIVER], ttl=ttl, source=FileSource(name=f"{name}_source", path="none.parquet"),
        schema=[Field(name="driver_id", dtype=Int64)]
        + [Field(name=f, dtype=t) for f, t in (features or {"rate": Float64, "trips": Int64}).items()],
    )


class There:
    """A store, its configuration and a clock that stands still."""

    def __init__(self, port: int, project: str = "trading", **config: Any) -> None:
        self.config = RepoConfig(
            project=project, provider="local", registry="none.db", entity_key_serialization_version=3,
            online_store={"type": OURS, "connection_string": f"127.0.0.1:{port}", **config},
        )
        self.store = NewestWinsOnlineStore()
        self.store.now = lambda: NOW
        self.client = redis.Redis(port=port)

    def write(self, table: FeatureView, *rows: tuple[Any, ...]) -> None:
        """Rows of entity key, rate, age in seconds, and created after the event time, seconds."""
        self.store.online_write_batch(self.config, table, [self.row(*row) for row in rows], None)

    def row(self, entity: EntityKey, rate: float, age_s: float, created_s: float | None = None) -> Any:
        at = NOW - timedelta(seconds=age_s)
        known = None if created_s is None else at + timedelta(seconds=created_s)
        return entity, {"rate": Value(double_val=rate), "trips": Value(int64_val=int(rate))}, at, known

    def rate(self, table: FeatureView, entity: EntityKey) -> float | None:
        [(_, values)] = self.store.online_read(self.config, table, [entity], ["rate"])
        return None if values is None else values["rate"].double_val
