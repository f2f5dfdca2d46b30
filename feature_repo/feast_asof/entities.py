"""Entity rows: who is asked for and as of when, from a DataFrame, a SQL query, or a range of time.

SQL is DuckDB's. Paths in it are relative to the Feast repository, and a data source of the repository is a table of its
name:

    SELECT driver_id, event_timestamp, label FROM 'data/labels.parquet' WHERE label IS NOT NULL
    SELECT DISTINCT driver_id, now() AS event_timestamp FROM driver_hourly_stats_source
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast.data_source import DataSource
from feast.infra.offline_stores import offline_utils
from feast.infra.offline_stores.file_source import FileSource

from .columns import instants
from .join import BEFORE_ALL, Ints
from .parquet import Place

TIME: str = offline_utils.DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL


@dataclass(frozen=True)
class Entities:
    """Entity rows in their order. `time` names the column of times; `at` is it in ns UTC, shape (N,)."""

    rows: pa.Table
    time: str
    at: Ints

    @classmethod
    def of_frame(cls, frame: pd.DataFrame) -> Entities:
        """A DataFrame's rows. Raises Feast's own error when no column is the time, `ValueError` when it is none."""
        column = offline_utils.infer_event_timestamp_from_entity_df(dict(frame.dtypes))
        if frame[column].dtype == object:  # Python's datetimes, of several zones perhaps, or text
            frame = frame.assign(**{column: pd.to_datetime(frame[column], utc=True)})
        return cls._of(pa.Table.from_pandas(frame, preserve_index=False), column)

    @classmethod
    def of_sql(cls, query: str, sources: Sequence[DataSource], repo_path: Path | str | None) -> Entities:
        """A query's rows, times without a zone taken as UTC. Raises `ValueError` when DuckDB refuses the query."""
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'; SET python_enable_replacements = false")
            connection.execute(f"SET file_search_path = '{str(repo_path or '.').replace(chr(39), chr(39) * 2)}'")
            named = [source for source in sources if isinstance(source, FileSource) and _names(query, source.name)]
            closed = [why for source in named if (why := _register(connection, source, repo_path))]
            try:
                rows = connection.execute(query).to_arrow_table()
            except duckdb.Error as error:
                why = "; ".join([str(error), *closed])
                raise ValueError(f"expected SQL that DuckDB runs as entity rows, found {query!r}; {why}") from error
        column = offline_utils.infer_event_timestamp_from_entity_df(dict(rows.schema.empty_table().to_pandas().dtypes))
        times = instants(rows[column], column, BEFORE_ALL)
        moments = pa.array(times, mask=times == BEFORE_ALL).cast(pa.timestamp("ns", "UTC"))
        return cls(rows.set_column(rows.schema.get_field_index(column), column, moments), column, times)

    @classmethod
    def distinct(cls, rows: pa.Table) -> Entities:
        """Keys and their times (`TIME`), each combination once."""
        return cls._of(rows.group_by(rows.column_names, use_threads=False).aggregate([]), TIME)

    @classmethod
    def _of(cls, rows: pa.Table, column: str) -> Entities:
        return cls(rows, column, instants(rows[column], column, BEFORE_ALL))

    @property
    def names(self) -> list[str]:
        """Every column but the time."""
        return [name for name in self.rows.column_names if name != self.time]

    def ends(self) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
        """Least and greatest time, as Feast's metadata wants them."""
        found = pc.min_max(pa.array(self.at, mask=self.at == BEFORE_ALL)).as_py()
        first, last = (None if x is None else pd.Timestamp(x, tz="UTC") for x in (found["min"], found["max"]))
        return first, last


def _names(query: str, source: str) -> bool:
    """Whether a query may mean a source: its name is there as a whole word, in any case as DuckDB has it.

    >>> [_names("SELECT * FROM Trips_2024", name) for name in ("trips_2024", "trips", "2024")]
    [True, False, False]
    """
    return re.search(rf"(?<!\w){re.escape(source)}(?!\w)", query, re.IGNORECASE) is not None


def _register(connection: duckdb.DuckDBPyConnection, source: FileSource, repo_path: Path | str | None) -> str:
    """Make a source a table; why not where it cannot be opened: a word of the query need not mean it."""
    try:
        connection.register(source.name, Place.of(source, repo_path).dataset())
    except (ValueError, OSError, pa.ArrowException, duckdb.Error) as error:
        return f"source {source.name!r} cannot be opened: {error}"
    return ""
