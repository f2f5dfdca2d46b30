"""Lake reader: the rows of a zone between two times, whoever wrote them, each once.

    lake = Lake.open("file:///…/lake")
    bars = lake.read("clean", "BTCUSDT", start_ns, end_ns)   # close time in [start, end]

Writers replace and remove files while we read. An hour is therefore listed before and after it is read, and read
again when the two differ: what is given is the state of one moment, on a file system and on S3 alike
(docs/lake.md says what writers promise for it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from feature_repo.contracts import HOUR_NS, StoreUnavailable
from feature_repo.lake_layout import (
    Zone,
    base_folder,
    conform,
    date_folder,
    filesystem,
    folder_end,
    folder_start,
    hour_of,
    identity,
    merge,
    once,
    zone_schema,
)
from feature_repo.topics import base

T = TypeVar("T")
Versions = Mapping[str, tuple[int, int]]
"""Path → size and time of the last change of what lies there."""
LISTINGS = 10
"""How often a folder may be read anew; the owner of a running hour replaces its file every few seconds."""
RUNNING_DAYS = 2
"""The newest days that may still be written: shortly after midnight the last hour of the day before is, too."""
_PLAIN = ds.ParquetFileFormat()


@dataclass(frozen=True)
class Lake:
    """A lake's filesystem and root folder on it."""

    filesystem: Any
    root: str

    @classmethod
    def open(cls, lake_url: str, s3_endpoint: str = "") -> Lake:
        return cls(*filesystem(lake_url, s3_endpoint))

    def files(self, zone: Zone, base_asset: str, start_ns: int, end_ns: int) -> list[str]:
        """Parquet files of the hours that hold closes in [start, end], sorted by path."""
        folders = self._folders_within(f"{self.root}/{zone}/{base_asset}", folder_start(zone, start_ns), end_ns)
        return sorted(path for folder in folders for path in self._versions(folder))

    def bases(self, zone: Zone) -> list[str]:
        """Base assets that have a folder in the zone."""
        from pyarrow import fs

        present = self.filesystem.get_file_info(fs.FileSelector(f"{self.root}/{zone}", allow_not_found=True))
        return sorted(info.base_name for info in present if not info.is_file)

    def hours(self, zone: Zone, base_asset: str) -> Iterator[int]:
        """Starts of the hours that have a folder, ns, the newest first; lists no more than is asked for."""
        for date in self._folders(f"{self.root}/{zone}/{base_asset}"):
            yield from (hour_of(f"{hour}/") for hour in self._folders(date))

    def newest(self, zone: Zone, symbol: str) -> int | None:
        """Greatest `ts_event` of a symbol in the zone; null when it has no row."""
        for start in self.hours(zone, base(symbol)):
            closes = self.rows(zone, [symbol], start, folder_end(zone, start), ["ts_event"])["ts_event"]
            if len(closes):
                return int(pc.max(closes).as_py())
        return None

    def changed_ns(self, zone: Zone, base_asset: str, close_ns: int) -> int:
        """When a file of the hour that holds a close was last written, ns; 0 where there is none.

        Raises `StoreUnavailable`.
        """
        folder = f"{self.root}/{base_folder(zone, base_asset, close_ns)}"
        try:
            return max((changed for _, changed in self._versions(folder).values()), default=0)
        except OSError as error:
            raise StoreUnavailable(f"lake expected at {folder}, found {error}; check lake_url") from error

    def read(self, zone: Zone, symbol: str, start_ns: int, end_ns: int) -> pa.Table:
        """Rows of one symbol with `ts_event` in [start, end], each identity once, every column of the zone.

        Not for `raw`, whose rows have no symbol: see `read_raw`. Raises `StoreUnavailable`.
        """
        inside = (ds.field("ts_event") >= start_ns) & (ds.field("ts_event") <= end_ns) & (ds.field("symbol") == symbol)
        tables = self._read_all(zone, base(symbol), start_ns, end_ns, inside)
        return merge(zone, tables) if tables else zone_schema(zone).empty_table()

    def read_raw(self, base_asset: str, topic: str, start_ns: int, end_ns: int) -> pa.Table:
        """Raw records of one topic, in (partition, offset) order, from the hours that hold [start, end]."""
        tables = self._read_all("raw", base_asset, start_ns, end_ns, ds.field("topic") == topic)
        return merge("raw", tables) if tables else zone_schema("raw").empty_table()

    def hour(self, zone: Zone, base_asset: str, hour_ns: int) -> pa.Table:
        """All rows of an hour's folder, every symbol and topic, each identity once."""
        tables = self._read_all(zone, base_asset, hour_ns, hour_ns, None)
        return merge(zone, tables) if tables else zone_schema(zone).empty_table()

    def rows(
        self, zone: Zone, symbols: Sequence[str] | None, start_ns: int, end_ns: int, columns: Sequence[str],
        every_ns: int = 1,
    ) -> pa.Table:
        """Some columns of the rows of `symbols` (null: of all) with `ts_event` in [start, end], each identity once.

        In no order. `every_ns`: only those whose `ts_event` is a whole multiple of it, the rest is never held.
        """
        wanted = (ds.field("ts_event") >= start_ns) & (ds.field("ts_event") <= end_ns)
        if every_ns > 1:
            whole = pc.multiply(pc.divide(ds.field("ts_event"), every_ns), every_ns)
            wanted &= ds.field("ts_event") == whole
        if symbols is not None:
            wanted &= pc.is_in(ds.field("symbol"), pa.array(list(symbols), pa.string()))

        def read(files: list[str]) -> pa.Table:
            held = ds.dataset(files, zone_schema(zone), _PLAIN, self.filesystem)
            if len(files) == len({path.rsplit("/", 1)[0] for path in files}):
                return held.to_table(columns=list(columns), filter=wanted)
            # One file has no row twice; a revision may lie beside the file that it has been merged into.
            keyed = held.to_table(columns=list(dict.fromkeys((*columns, *identity(zone)))), filter=wanted)
            found = once(zone, keyed)
            if zone == "features" and found.num_rows < keyed.num_rows:
                # Which of two tellings of a row says more, only all of its columns tell.
                found = once(zone, held.to_table(filter=wanted))
            return found.select(list(columns))

        bases = self.bases(zone) if symbols is None else sorted({base(symbol) for symbol in symbols})
        tables = [table for name in bases for table in self._snapshots(zone, name, start_ns, end_ns, read)]
        none = pa.schema([zone_schema(zone).field(name) for name in columns]).empty_table()
        return pa.concat_tables([none, *tables])

    def _folders_within(self, path: str, start_ns: int, end_ns: int) -> Iterator[str]:
        """Whole days as one folder, of the days at the ends only the hours: a day of raw files is long to list.

        The newest days too by their hours, whatever the end: a day whose running hour is replaced every few seconds
        never stands still as a whole.
        """
        first, last = date_folder(start_ns), date_folder(end_ns)
        for days_newer, folder in enumerate(self._folders(path)):
            date = folder.rsplit("/", 1)[1]
            if first < date < last and days_newer >= RUNNING_DAYS:
                yield folder
            elif first <= date <= last:
                hours = self._folders(folder)
                yield from (hour for hour in hours if start_ns - HOUR_NS < hour_of(f"{hour}/") <= end_ns)

    def _folders(self, path: str) -> list[str]:
        from pyarrow import fs

        present = self.filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return sorted((info.path for info in present if not info.is_file), reverse=True)

    def _versions(self, folder: str) -> Versions:
        """The Parquet files below a folder as they are now; none when it is gone."""
        from pyarrow import fs

        infos = self.filesystem.get_file_info(fs.FileSelector(folder, True, recursive=True))
        return {
            info.path: (info.size, info.mtime_ns) for info in infos
            if info.is_file and info.path.endswith(".parquet")
        }

    def _read_all(self, zone: Zone, base_asset: str, start_ns: int, end_ns: int, wanted: Any) -> list[pa.Table]:
        def read(files: list[str]) -> pa.Table:
            whole = ds.dataset(files, zone_schema(zone), _PLAIN, self.filesystem)
            return conform(zone, whole.to_table(filter=wanted))

        return self._snapshots(zone, base_asset, start_ns, end_ns, read)

    def _snapshots(
        self, zone: Zone, base_asset: str, start_ns: int, end_ns: int, read: Callable[[list[str]], T],
    ) -> list[T]:
        """`read` of each folder's files, a day or an hour, as they were at one moment; empty folders are left out."""
        try:
            first_ns = folder_start(zone, start_ns)
            folders = list(self._folders_within(f"{self.root}/{zone}/{base_asset}", first_ns, end_ns))
            found = [self._snapshot(folder, read) for folder in folders]
        except OSError as error:
            raise StoreUnavailable(f"lake expected at {self.root}, found {error}; check lake_url") from error
        return [part for part in found if part is not None]

    def _snapshot(self, folder: str, read: Callable[[list[str]], T]) -> T | None:
        versions = self._versions(folder)
        for _ in range(LISTINGS):
            wrong: Exception | None = None
            try:
                found = read(sorted(versions)) if versions else None
            except (OSError, pa.ArrowInvalid) as error:
                wrong = error  # of a file that was replaced or removed meanwhile, or of one that is really broken
            before, versions = versions, self._versions(folder)
            if versions == before:
                if wrong is not None:
                    raise StoreUnavailable(f"lake expected at {folder}, found {wrong}; check lake_url") from wrong
                return found
        raise StoreUnavailable(f"lake {folder}: changed each of {LISTINGS} times that it was read")
