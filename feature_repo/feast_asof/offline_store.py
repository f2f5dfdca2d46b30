"""Feast's OfflineStore over the as-of rule: history, materialisation, saved data sets, pushes and logs on Parquet.

    offline_store:
      type: feast_asof.AsOfOfflineStore
      as_of: created        # or `event`: `created` then only breaks ties, which is what Feast does by itself

A source of another kind than files is a subclass with its own `read`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast.data_source import DataSource
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.saved_dataset import SavedDatasetStorage
from feast.utils import compute_non_entity_date_range
from pydantic import StrictStr

from .columns import lossless, plain
from .entities import Entities
from .history import History, Wanted, nanoseconds, read
from .join import latest
from .parquet import Place
from .retrieval import retrieve, seen


class AsOfOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """How history is joined."""

    type: StrictStr = "feast_asof.AsOfOfflineStore"
    as_of: Literal["created", "event"] = "created"
    """What says that a row was known at a time: its created column (where its source has one), or its event time."""
    staging_location: StrictStr | None = None
    """Folder or URL that `to_remote_storage` writes below."""


class AsOfJob(RetrievalJob):  # type: ignore[misc]
    """A retrieval that runs each time its rows are asked for."""

    def __init__(
        self, run: Callable[[], pa.Table], config: RepoConfig, metadata: RetrievalMetadata | None = None,
        full_feature_names: bool = False, on_demand: Sequence[OnDemandFeatureView] = (),
    ) -> None:
        self._run = run
        self._config = config
        self._metadata = metadata
        self._full_feature_names = full_feature_names
        self._on_demand = list(on_demand)

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002 - Feast's signature
        return self._run()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:  # noqa: ARG002
        return lossless(self._run())

    def to_df(self, validation_reference: Any = None, timeout: int | None = None) -> pd.DataFrame:
        """Rows as pandas, on-demand features included; integers beside nulls keep every digit."""
        return lossless(self.to_arrow(validation_reference=validation_reference, timeout=timeout))

    def persist(
        self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None,
    ) -> None:
        """Write the rows as a saved data set, which replaces one that is there only where that is allowed."""
        place = Place.of(storage.to_data_source(), self._config.repo_path)
        if place.exists() and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=storage.to_data_source().path)
        place.replace(self.to_arrow(timeout=timeout))

    def supports_remote_storage_export(self) -> bool:
        return bool(getattr(self._config.offline_store, "staging_location", None))

    def to_remote_storage(self) -> list[str]:
        """Write the rows below `staging_location`; returns the files' URLs."""
        if not self.supports_remote_storage_export():
            raise ValueError("expected a staging_location in offline_store's configuration, found none; name a folder")
        url = f"{self._config.offline_store.staging_location.rstrip('/')}/{uuid4().hex}.parquet"
        Place.of(FileSource(path=url), self._config.repo_path).replace(self.to_arrow())
        return [url]


class AsOfOfflineStore(OfflineStore):  # type: ignore[misc]
    """History and materialisation by knowledge time."""

    supports_filter_by_created_timestamp = True

    @classmethod
    def read(cls, config: RepoConfig, source: DataSource, wanted: Wanted) -> History:
        """The rows of a source that may answer: the one thing that depends on where they lie."""
        return read(source, Place.of(source, config.repo_path), wanted)

    @classmethod
    def get_historical_features(  # noqa: PLR0913, PLR0917 - Feast's signature
        cls, config: RepoConfig, feature_views: list[FeatureView], feature_refs: list[str],
        entity_df: pd.DataFrame | str | None, registry: Any, project: str, full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        start_date: datetime | None = None, end_date: datetime | None = None,
    ) -> AsOfJob:
        """Features as known at each entity row's time; rows keep their number and order, nulls where nothing was known.

        `entity_df` is a DataFrame, or SQL for DuckDB, or null: each entity at each event time it has in [start, end].
        """
        by_created = filter_by_created_timestamp or config.offline_store.as_of == "created"

        def reader(source: DataSource, wanted: Wanted) -> History:
            return cls.read(config, source, wanted)

        if isinstance(entity_df, pd.DataFrame):
            entities = Entities.of_frame(entity_df)
        elif isinstance(entity_df, str):
            entities = Entities.of_sql(entity_df, registry.list_data_sources(project), config.repo_path)
        elif entity_df is None:
            start, end = compute_non_entity_date_range(feature_views, start_date, end_date)
            entities = seen(reader, feature_views, start, end)
        else:
            raise ValueError(f"expected a DataFrame or SQL as entity rows, found {type(entity_df).__name__}")
        first, last = entities.ends()
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry) if registry else []
        return AsOfJob(
            lambda: retrieve(reader, feature_views, feature_refs, entities, full_feature_names, by_created), config,
            RetrievalMetadata(list(feature_refs), entities.names, first, last), full_feature_names, on_demand,
        )

    @classmethod
    def pull_latest_from_table_or_query(  # noqa: PLR0913, PLR0917 - Feast's signature
        cls, config: RepoConfig, data_source: DataSource, join_key_columns: list[str], feature_name_columns: list[str],
        timestamp_field: str, created_timestamp_column: str | None, start_date: datetime, end_date: datetime,
    ) -> AsOfJob:
        """The greatest (event time, created) of each key with its event time in [start, end]."""
        columns = _columns(join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column)
        wanted = _range(columns, timestamp_field, created_timestamp_column, start_date, end_date)

        def run() -> pa.Table:
            held = cls.read(config, data_source, wanted).within(wanted.first, wanted.last)
            newest = latest([plain(held.rows[name]) for name in join_key_columns], held.times)
            return _answer(held.rows.take(pa.array(newest)), join_key_columns, columns)

        return AsOfJob(run, config)

    @classmethod
    def pull_all_from_table_or_query(  # noqa: PLR0913, PLR0917 - Feast's signature
        cls, config: RepoConfig, data_source: DataSource, join_key_columns: list[str], feature_name_columns: list[str],
        timestamp_field: str, created_timestamp_column: str | None = None,
        start_date: datetime | None = None, end_date: datetime | None = None,
    ) -> AsOfJob:
        """Every row with its event time in [start, end], revisions beside what they revise, in the files' order."""
        columns = _columns(join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column)
        wanted = _range(columns, timestamp_field, created_timestamp_column, start_date, end_date)

        def run() -> pa.Table:
            held = cls.read(config, data_source, wanted).within(wanted.first, wanted.last)
            return _answer(held.rows, join_key_columns, columns)

        return AsOfJob(run, config)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None,
    ) -> None:
        """Add rows to a view's source: a new file in a folder; a single file is written again, and never seen half."""
        source = feature_view.batch_source
        place = Place.of(source, config.repo_path)
        place.add(place.conform(table, source.field_mapping or {}), place.partitions())
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig, data: pa.Table | Path, source: Any, logging_config: Any, registry: Any,  # noqa: ARG004
    ) -> None:
        """Add logged features as files of their own to the destination's folder."""
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise ValueError(f"expected a FileLoggingDestination, found {type(destination).__name__}")
        rows = pq.read_table(data) if isinstance(data, Path) else data
        Place.of(destination.to_data_source(), config.repo_path).add(rows, destination.partition_by or ())


def _columns(keys: Sequence[str], features: Sequence[str], event: str, created: str | None) -> list[str]:
    return list(dict.fromkeys([*keys, *features, event, *([created] if created else [])]))


def _range(
    columns: Sequence[str], event: str, created: str | None, start: datetime | None, end: datetime | None,
) -> Wanted:
    return Wanted(columns, event, created, nanoseconds(start), nanoseconds(end), by_created=False)


def _answer(rows: pa.Table, keys: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """The columns in order; Feast keys a view without entities by a constant."""
    rows = rows.select(columns)
    return rows if keys else rows.append_column(DUMMY_ENTITY_ID, pa.array([DUMMY_ENTITY_VAL] * len(rows), pa.string()))
