"""Parquet behind a Feast `FileSource`: a file or a (hive-partitioned) folder, here, on S3 or any Arrow filesystem.

What is written appears whole: under a hidden name first, then renamed; one PUT on S3. A writer may replace or
remove files while they are read: the folder is then listed again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from feast.data_format import ParquetFormat
from feast.infra.offline_stores.file_source import FileSource
from pyarrow import fs

T = TypeVar("T")
LISTINGS = 4
_HIDDEN = "."


@dataclass(frozen=True)
class Place:
    """A path on a filesystem; `name` is what its owner calls it."""

    filesystem: Any
    path: str
    name: str

    @classmethod
    def of(cls, source: FileSource, repo_path: Path | str | None) -> Place:
        """Where a source lies, a relative path in the Feast repository. Raises `ValueError` for other formats."""
        if not isinstance(source, FileSource):
            raise ValueError(f"expected a FileSource, found {type(source).__name__}; this store reads Parquet files")
        if source.file_format is not None and not isinstance(source.file_format, ParquetFormat):
            raise ValueError(f"expected Parquet in source {source.name!r}, found {type(source.file_format).__name__}")
        uri = FileSource.get_uri_for_file_path(repo_path, source.path)
        if uri.startswith("s3://"):
            filesystem, path = FileSource.create_filesystem_and_path(
                uri, source.s3_endpoint_override, source.resolve_credentials(),
            )
        elif "://" in uri:
            filesystem, path = fs.FileSystem.from_uri(uri)
        else:
            filesystem, path = fs.LocalFileSystem(), str(Path(uri).absolute())
        return cls(filesystem, path.rstrip("/"), f"{source.name} ({source.path})")

    @property
    def is_file(self) -> bool:
        """Whether one file is meant; Spark's `x.parquet` is a folder."""
        return self.path.endswith(".parquet") and self._info().type != fs.FileType.Directory

    def exists(self) -> bool:
        """Whether there is a file, or a folder with Parquet in it."""
        return bool(self._info().type == fs.FileType.File or self.files())

    def files(self) -> list[str]:
        """Paths of the Parquet files, sorted; what is hidden (`.x`, `_x`) or named otherwise is passed by."""
        if self._info().type == fs.FileType.File:
            return [self.path]
        held = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True, recursive=True))
        return sorted(info.path for info in held if info.is_file and _is_shown(info.path.removeprefix(self.path)))

    def dataset(self, needed: Sequence[str] = ()) -> ds.Dataset:
        """The files as one table, of the first file's columns; of every file's where a needed one is not in the first.

        Raises `ValueError` when there is nothing, or a needed column is nowhere.
        """
        if not (files := self.files()):
            raise ValueError(f"expected Parquet at the path of source {self.name}, found nothing there")
        options = ds.FileSystemFactoryOptions(partitioning=ds.HivePartitioning.discover(), partition_base_dir=self.path)
        factory = ds.FileSystemDatasetFactory(self.filesystem, files, ds.ParquetFileFormat(), options)
        schema = factory.inspect(fragments=1)
        if set(needed) - set(schema.names):
            schema = factory.inspect(promote_options="permissive")
        if missing := sorted(set(needed) - set(schema.names)):
            raise ValueError(f"expected the columns {missing} in source {self.name}, found {schema.names}")
        return factory.finish(schema)

    def read(self, needed: Sequence[str], use: Callable[[ds.Dataset], T]) -> T:
        """`use` of the dataset; again from the listing where a file vanished meanwhile."""
        for attempt in range(LISTINGS):
            try:
                return use(self.dataset(needed))
            except FileNotFoundError as error:
                if attempt == LISTINGS - 1:
                    raise ValueError(f"source {self.name}: files vanished {LISTINGS} times; {error}") from error
        raise AssertionError("unreachable")

    def replace(self, table: pa.Table) -> None:
        """Make the table what lies here, a file or a folder's only content."""
        if self.is_file:
            self._put(table, self.path)
            return
        before = self.files()
        self._put(table, f"{self.path}/{uuid.uuid4().hex}.parquet")
        for path in before:
            self.filesystem.delete_file(path)

    def add(self, table: pa.Table, partition_by: Sequence[str] = ()) -> None:
        """Add rows: a file of their own in a folder, below `partition_by`; a single file is written again with them."""
        if self.is_file:
            self._put(self._with(table), self.path)
            return
        written: list[str] = []
        ds.write_dataset(
            table, self.path, filesystem=self.filesystem, format="parquet", use_threads=False,
            basename_template=f"{_HIDDEN}{uuid.uuid4().hex}-{{i}}.parquet",
            existing_data_behavior="overwrite_or_ignore",
            partitioning=ds.partitioning(pa.schema([table.schema.field(n) for n in partition_by]), flavor="hive"),
            file_visitor=lambda file: written.append(file.path),
        )
        for path in written:
            folder, name = path.rsplit("/", 1)
            self.filesystem.move(path, f"{folder}/{name.removeprefix(_HIDDEN)}")

    def partitions(self) -> list[str]:
        """Names of the partition columns, from the folders of the first file."""
        folders = [path.removeprefix(self.path).split("/")[:-1] for path in self.files()[:1]]
        return [part.split("=", 1)[0] for parts in folders for part in parts if "=" in part]

    def conform(self, table: pa.Table, mapping: Mapping[str, str]) -> pa.Table:
        """Rows with the columns and types that lie here; `mapping` tells the names Feast may have given them.

        Raises `ValueError` for a column too few or too many.
        """
        if not self.exists():
            return table
        schema = self.dataset().schema
        given = {name: mapping.get(name, name) if name not in table.column_names else name for name in schema.names}
        if set(given.values()) != set(table.column_names):
            raise ValueError(f"expected the columns {schema.names} for source {self.name}, found {table.column_names}")
        return pa.table([table[given[name]].cast(schema.field(name).type) for name in schema.names], schema=schema)

    def _with(self, table: pa.Table) -> pa.Table:
        if not self.exists():
            return table
        held = pq.read_table(self.path, filesystem=self.filesystem, partitioning=None)
        return pa.concat_tables([held, table.select(held.column_names).cast(held.schema)])

    def _info(self) -> Any:
        return self.filesystem.get_file_info([self.path])[0]

    def _put(self, table: pa.Table, path: str) -> None:
        folder, name = path.rsplit("/", 1)
        local = isinstance(self.filesystem, fs.LocalFileSystem)
        # An object store shows an object when it is whole; a rename there would be a copy.
        hidden = f"{folder}/{_HIDDEN}{uuid.uuid4().hex}-{name}" if local else path
        if local:
            self.filesystem.create_dir(folder, recursive=True)
        pq.write_table(table, hidden, filesystem=self.filesystem)
        if local:
            self.filesystem.move(hidden, path)


def _is_shown(path: str) -> bool:
    """Whether a path below a source is data.

    >>> [_is_shown(path) for path in ("/date=2024-01-01/x.parquet", "/.x.parquet", "/_log/x.parquet", "/x.parquet.tmp")]
    [True, False, False, False]
    """
    return path.endswith(".parquet") and not any(part.startswith((".", "_")) for part in path.split("/"))
