"""Offline store: the lake behind Feast's OfflineStore interface, joined as it was known.

    offline_store:
      type: feature_repo.offline_store.LakeOfflineStore

`feast_asof` does the work, for any Feast repository; here it learns where our rows lie, and that `created` alone, in
nanoseconds, says when a row was known: at time t, among the rows with `created` ≤ t, the one with the greatest
(event time, created); then the view's TTL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from feast import FeatureView, RepoConfig, ValueType
from feast.data_source import DataSource
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.type_map import pa_to_feast_value_type
from pydantic import Field

from feature_repo.feast_asof import AsOfJob, AsOfOfflineStore, AsOfOfflineStoreConfig
from feature_repo.feast_asof.history import History, Wanted
from feature_repo.feast_asof.join import Times
from feature_repo.lake_layout import CREATED_TIMESTAMP, EVENT_TIMESTAMP, TIMESTAMP, zone_schema
from feature_repo.lake_reader import Lake
from feature_repo.settings import load_settings
from feature_repo.views import ENTITY

_CLASS = "feature_repo.offline_store.LakeSource"
_KEYS = (ENTITY, "ts_event", "created")
_KINDS = {
    "ts_event": pa.int64(), "created": pa.int64(), EVENT_TIMESTAMP: TIMESTAMP, CREATED_TIMESTAMP: TIMESTAMP,
}


class LakeOfflineStoreConfig(AsOfOfflineStoreConfig):
    """Where the lake is; by default what the settings say. Rows are joined by `created`, whatever `as_of` says."""

    type: Literal["feature_repo.offline_store.LakeOfflineStore"] = "feature_repo.offline_store.LakeOfflineStore"
    lake_url: str = Field(default_factory=lambda: load_settings().lake)
    s3_endpoint: str = Field(default_factory=lambda: load_settings().s3_endpoint)


class LakeSource(DataSource):  # type: ignore[misc]
    """One zone of the lake; without a zone, a view that exists online only."""

    def __init__(self, *, name: str, zone: str = "", description: str = "", **proto_fields: Any) -> None:
        super().__init__(
            name=name, timestamp_field=EVENT_TIMESTAMP, created_timestamp_column=CREATED_TIMESTAMP,
            description=description, **proto_fields,
        )
        self.zone = zone

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LakeSource) and self.zone == other.zone and bool(super().__eq__(other))

    def __hash__(self) -> int:
        return hash((self.name, self.zone))

    def source_type(self) -> Any:
        return DataSourceProto.CUSTOM_SOURCE

    @staticmethod
    def from_proto(data_source: Any) -> LakeSource:
        return LakeSource(
            name=data_source.name, zone=data_source.custom_options.configuration.decode(),
            description=data_source.description, tags=dict(data_source.tags), owner=data_source.owner,
        )

    def _to_proto_impl(self) -> Any:
        proto = DataSourceProto(
            name=self.name, type=DataSourceProto.CUSTOM_SOURCE, data_source_class_type=_CLASS,
            description=self.description, tags=self.tags, owner=self.owner,
            custom_options=DataSourceProto.CustomSourceOptions(configuration=self.zone.encode()),
        )
        proto.timestamp_field, proto.created_timestamp_column = EVENT_TIMESTAMP, CREATED_TIMESTAMP
        return proto

    def validate(self, config: RepoConfig) -> None:
        """Nothing to find out: the zone's schema is stated in `lake_layout`, and a young lake may be empty."""

    def get_table_column_names_and_types(self, config: RepoConfig) -> Iterable[tuple[str, str]]:  # noqa: ARG002
        schema = zone_schema(self.zone) if self.zone else pa.schema([])
        return [(field.name, str(field.type)) for field in schema]

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        convert: Callable[[str], ValueType] = pa_to_feast_value_type
        return convert


class LakeOfflineStore(AsOfOfflineStore):
    """History and materialisation from the lake, by knowledge time."""

    @classmethod
    def read(cls, config: RepoConfig, source: DataSource, wanted: Wanted) -> History:
        """Rows of a zone, whoever wrote them. A source without a zone has none: there is nothing to materialise."""
        columns = list(dict.fromkeys([*_KEYS, *wanted.columns]))
        if not source.zone:
            rows = pa.schema([(name, _KINDS.get(name, pa.string())) for name in columns]).empty_table()
        else:
            symbols = wanted.keys[ENTITY].to_pylist() if ENTITY in wanted.keys else None
            first, last = max(wanted.first or 0, 0), 2**62 if wanted.last is None else wanted.last
            rows = _lake(config).rows(source.zone, symbols, first, last, columns)
        event, created = (rows[name].to_numpy() for name in ("ts_event", "created"))
        return History(rows, Times(event, created, known=created))

    @classmethod
    def get_historical_features(  # noqa: PLR0913, PLR0917 - Feast's signature
        cls, config: RepoConfig, feature_views: list[FeatureView], feature_refs: list[str],
        entity_df: pd.DataFrame | str | None, registry: Any, project: str, full_feature_names: bool = False,
        filter_by_created_timestamp: bool = True,
        start_date: datetime | None = None, end_date: datetime | None = None,
    ) -> AsOfJob:
        """As `AsOfOfflineStore`; the knowledge-time rule always holds, whatever the flag."""
        for view in feature_views:
            if not getattr(view.batch_source, "zone", ""):
                raise ValueError(f"{view.name} is online only: it has no history; rebuild it from the rows' history")
        return super().get_historical_features(
            config, feature_views, feature_refs, entity_df, registry, project, full_feature_names,
            filter_by_created_timestamp, start_date, end_date,
        )


def _lake(config: RepoConfig) -> Lake:
    return Lake.open(config.offline_store.lake_url, config.offline_store.s3_endpoint)
