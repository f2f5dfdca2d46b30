"""Made Parquet sources, views and repositories of any Feast user, and the as-of rule by brute force in pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, Int64, String

from feature_repo.feast_asof import AsOfOfflineStore

HOUR = timedelta(hours=1)
T0 = pd.Timestamp("2024-03-10T00:00:00Z")
ASOF = "feature_repo.feast_asof.AsOfOfflineStore"
_KINDS = {
    "int64": (Int64, ValueType.INT64), "float64": (Float64, ValueType.DOUBLE), "object": (String, ValueType.STRING),
}


def times(minutes: Sequence[float | None]) -> pd.Series[Any]:
    """Minutes after T0 as times; null where there is none."""
    return pd.Series(pd.to_datetime([None if m is None else T0 + pd.Timedelta(minutes=m) for m in minutes], utc=True))


def made_view(
    folder: Path, name: str, rows: pd.DataFrame, keys: Sequence[str], *, ttl: timedelta | None = None,
    created: str | None = "created", mapping: Mapping[str, str] | None = None, event: str = "event_timestamp",
    path: str = "", tags: Mapping[str, str] | None = None,
) -> FeatureView:
    """A view over `rows`, written as one file; its features are the columns that are neither key nor time."""
    if not path:
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), folder / f"{name}.parquet")
    mapping = dict(mapping or {})
    source = FileSource(
        name=f"{name}_source", path=path or str(folder / f"{name}.parquet"), timestamp_field=event,
        created_timestamp_column=created or "", field_mapping=mapping, tags=dict(tags or {}),
    )
    entities = [entity(mapping.get(key, key), rows[key]) for key in keys]
    fields = [
        Field(name=mapping.get(column, column), dtype=_KINDS.get(str(rows[column].dtype), _KINDS["object"])[0])
        for column in rows.columns if column not in {*keys, event, created}
    ]
    joined = [Field(name=e.join_key, dtype=_KINDS[str(rows[k].dtype)][0]) for e, k in zip(entities, keys, strict=True)]
    view = FeatureView(name=name, entities=entities, ttl=ttl, schema=[*joined, *fields], source=source)
    view.entity_columns = joined  # what `feast apply` infers
    view.features = fields
    return view


def entity(key: str, column: pd.Series[Any]) -> Entity:
    return Entity(name=key, join_keys=[key], value_type=_KINDS[str(column.dtype)][1])


def config(folder: Path, as_of: str = "created", **options: Any) -> Any:
    store = SimpleNamespace(as_of=as_of, staging_location=None, **options)
    return SimpleNamespace(offline_store=store, repo_path=folder, project="made")


def history(
    folder: Path, views: Sequence[FeatureView], refs: Sequence[str], entities: pd.DataFrame, *, as_of: str = "created",
    full_names: bool = False, **options: Any,
) -> pd.DataFrame:
    """Historical features through the store, without a registry."""
    job = AsOfOfflineStore.get_historical_features(
        config(folder, as_of), list(views), list(refs), entities, None, "made", full_names, **options,
    )
    return job.to_df()


def repository(folder: Path, offline_store: Any = None) -> FeatureStore:
    """A Feast repository in a folder, with a file registry and SQLite online."""
    made = RepoConfig(
        project="made", provider="local", registry=str(folder / "registry.db"), entity_key_serialization_version=3,
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        offline_store=offline_store or {"type": ASOF},
    )
    made.repo_path = folder
    return FeatureStore(config=made)


def brute_force(
    rows: pd.DataFrame, entities: pd.DataFrame, keys: Sequence[str], feature: str, ttl: timedelta | None = None,
    as_of: str = "created",
) -> list[Any]:
    """For each entity row the feature of the greatest (event, created) row known by then, null where there is none."""
    found = []
    for _, asked in entities.iterrows():
        same = rows
        for key in keys:
            same = same[same[key] == asked[key]]
        same = same[same["event_timestamp"] <= asked["event_timestamp"]]
        if as_of == "created" and "created" in rows:
            same = same[same["created"] <= asked["event_timestamp"]]
        order = ["event_timestamp", "created"] if "created" in rows else ["event_timestamp"]
        same = same.sort_values(order, kind="stable", na_position="first").tail(1)
        fresh = same[same["event_timestamp"] >= asked["event_timestamp"] - ttl] if ttl else same
        found.append(None if fresh.empty or pd.isna(fresh[feature].iloc[0]) else fresh[feature].iloc[0])
    return found
