"""Lake writer: what travelled through Kafka as Parquet, written so that a kill or a repeat changes nothing.

    writer = LakeWriter.open("file:///data/lake")
    writer.write_batch(records)                                  # records: RAW_SCHEMA, as read from Kafka
    bars = read_zone("file:///data/lake", "clean", "BTCUSDT", start_ns, end_ns)

Raw records go to one file per batch and partition named by its offsets, beside the hour's own file, into which
`streaming.compaction` merges them; bars, feature rows, predictions and alerts are an upsert of the hour's file on
their identity, with the `rev-…` files of others merged in. A file is seen whole or not at all: `….tmp` and a rename,
or one PUT on S3. Whatever is merged is written before it is removed, under a name that was there before,
so that a listing of any age leads to every row; docs/lake.md names the exception, hours of nothing but revisions.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo import topics
from feature_repo.contracts import HOUR_NS, InvalidMessage, Message, Observation, UnknownSchema
from feature_repo.feature_sets import Declared
from feature_repo.lake_layout import (
    MESSAGES,
    Row,
    Zone,
    base_folder,
    conform,
    filesystem,
    hour_folder,
    identity,
    merge,
    owned_file,
    raw_file,
    raw_hour_file,
    rev_file,
    to_table,
    zone_schema,
)
from feature_repo.lake_reader import Lake
from streaming import lake_quality

ZONE_OF_TOPIC: Mapping[str, Zone] = {
    topics.CLEAN: "clean", topics.FEATURES: "features", topics.PREDICTIONS: "predictions", topics.ALERTS: "alerts",
}
SLOW_PATTERN = r"crypto\.[a-z0-9]+\.(funding|open_interest)|macro\.feed|sentiment\.fear_greed"
PATTERN = r"crypto\.[a-z0-9]+\.(trades|orderbook)|" + SLOW_PATTERN + "|" + "|".join(ZONE_OF_TOPIC)
"""The topics the lake keeps."""


@dataclass(frozen=True)
class Refused:
    """A record that could not be decoded, with why."""

    record: Mapping[str, Any]
    error: InvalidMessage | UnknownSchema


@dataclass(frozen=True)
class Written:
    """What a batch came to: records by zone, and those that no zone could take."""

    records: dict[str, int] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    """Of slow series: written by `streaming.slow_rows`, behind the rows that are made of them."""


@dataclass(frozen=True)
class LakeWriter:
    """The one writer of the hours' owned files, on a pyarrow filesystem."""

    filesystem: Any
    root: str

    @classmethod
    def open(cls, lake_url: str, s3_endpoint: str = "") -> LakeWriter:
        """Raises `ValueError` for a URL without a scheme."""
        return cls(*filesystem(lake_url, s3_endpoint))

    def write_batch(self, records: pa.Table) -> Written:
        """Write a batch of Kafka records (`RAW_SCHEMA`) to their zones. Writing it again changes nothing.

        Observations of slow series are decoded, and left to the caller.
        """
        written = Written()
        for topic in pc.unique(records["topic"]).to_pylist():
            part = records.filter(pc.equal(records["topic"], topic))
            zone = "observations" if topics.is_slow(topic) else ZONE_OF_TOPIC.get(topic, "raw")
            if zone == "raw":
                self._write_raw(topic, part)
            else:
                messages, refused = _decode(zone, part)
                written.refused.extend(refused)
                if zone == "observations":
                    written.observations.extend(messages)  # type: ignore[arg-type]
                else:
                    self.upsert(zone, messages)
            written.records[zone] = written.records.get(zone, 0) + part.num_rows
        return written

    def declare(self) -> None:
        """Say beside the rows which features those of this code hold; what is said already stays."""
        said = Declared.here()
        path = f"{self.root}/{said.path}"
        if not self.filesystem.get_file_info(path).is_file:
            # A verb and the stream may say it at once.
            self.store(path, pa.py_buffer(said.body), own_name=False, durable=True)

    def upsert(self, zone: Zone, messages: Sequence[Row]) -> None:
        """Merge messages into the owned files of their hours, with what others added there.

        What is expected of feature rows is checked and counted on every way in (`lake_quality`); all are written.
        """
        for folder, group in _by_folder(zone, messages).items():
            rows = to_table(zone, group)
            lake_quality.count(zone, rows)
            self._merge_hour(zone, folder, rows)

    def add_revision(self, zone: Zone, messages: Sequence[Row], provenance: str) -> list[str]:
        """Add messages as `rev-…` files, one an hour, and return their paths; any process may.

        The name carries a hash of the rows, so that a repeat overwrites itself.
        """
        return [
            self._add_file(zone, folder, provenance, merge(zone, [to_table(zone, group)]))
            for folder, group in _by_folder(zone, messages).items()
        ]

    def add_rows(self, zone: Zone, rows: pa.Table, provenance: str) -> list[str]:
        """`add_revision` of rows that are a table already, each once."""
        hours = pc.divide(rows["ts_event"], HOUR_NS)
        return [
            self._add_file(zone, hour_folder(zone, symbol, hour * HOUR_NS), provenance, merge(zone, [part]))
            for hour in pc.unique(hours).to_pylist()
            for symbol in pc.unique(rows["symbol"]).to_pylist()
            if (part := rows.filter(pc.and_(pc.equal(hours, hour), pc.equal(rows["symbol"], symbol)))).num_rows
        ]

    def merge_revisions(self, zone: Zone, folder: str) -> int:
        """Merge what others added to an hour (`folder` relative to the root) into its owned file; only its owner may.

        Returns how many files were merged.
        """
        waiting = [path for path in self.present(folder) if path != f"{self.root}/{folder}/{owned_file(zone)}"]
        if waiting:
            self._merge_hour(zone, folder, zone_schema(zone).empty_table())
        return len(waiting)

    def put(self, path: str, table: pa.Table) -> None:
        """Write one file so that a reader sees all of it or nothing. The same rows give the same bytes."""
        self.store(path, parquet(table))

    def store(self, path: str, body: pa.Buffer, *, own_name: bool = True, durable: bool = False) -> None:
        """`put` of bytes. `own_name`: nobody else writes this path. `durable`: on the disk before this returns."""
        if self.filesystem.type_name == "s3":
            self._write(path, body)
            return
        partial = f"{path}.tmp" if own_name else f"{path}.{os.getpid()}.tmp"
        self.filesystem.create_dir(path.rsplit("/", 1)[0], recursive=True)
        self._write(partial, body)
        if durable:
            _sync(partial)
        self.filesystem.move(partial, path)
        if durable:
            _sync(path.rsplit("/", 1)[0])

    def present(self, folder: str) -> list[str]:
        """Paths of the Parquet files of an hour (`folder` relative to the root), in order."""
        from pyarrow import fs

        selector = fs.FileSelector(f"{self.root}/{folder}", allow_not_found=True)
        return sorted(info.path for info in self.filesystem.get_file_info(selector) if info.path.endswith(".parquet"))

    def read(self, path: str) -> pa.Table:
        """One file's rows as they lie there."""
        with self.filesystem.open_input_file(path) as file:
            return pq.read_table(file, partitioning=None)

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files, one after the other."""
        for path in paths:
            self.filesystem.delete_file(path)

    def _write(self, path: str, body: pa.Buffer) -> None:
        with self.filesystem.open_output_stream(path) as out:
            out.write(body)

    def _add_file(self, zone: Zone, folder: str, provenance: str, table: pa.Table) -> str:
        lake_quality.count(zone, table)
        path = f"{self.root}/{folder}/{rev_file(provenance, _content_hash(table))}"
        # Two processes may add the same rows at once: neither may rename what the other has half written.
        self.store(path, parquet(table), own_name=False, durable=True)
        return path

    def _write_raw(self, topic: str, records: pa.Table) -> None:
        for partition in pc.unique(records["partition"]).to_pylist():
            rows = conform("raw", records.filter(pc.equal(records["partition"], partition)).sort_by("offset"))
            first, last = rows["offset"][0].as_py(), rows["offset"][-1].as_py()
            # The hour is that of the broker's time of the first record: the same in every repeat of the batch.
            at_us = rows["kafka_timestamp"].cast(pa.int64())[0].as_py()
            folder = f"{self.root}/{base_folder('raw', topics.topic_base(topic), at_us * 1000)}"
            self._ensure(f"{folder}/{raw_hour_file(topic, partition)}")
            self.put(f"{folder}/{raw_file(topic, partition, first, last)}", rows)

    def _ensure(self, hour_file: str) -> None:
        # What compaction replaces must have been there before: a listing that began earlier then leads to it too.
        if not self.filesystem.get_file_info(hour_file).is_file:
            self.put(hour_file, zone_schema("raw").empty_table())

    def _merge_hour(self, zone: Zone, folder: str, table: pa.Table) -> None:
        present = self.present(folder)
        owned = f"{self.root}/{folder}/{owned_file(zone)}"
        # Only what was read here is removed: a revision that arrives meanwhile stays for the next merge.
        merged_in = [path for path in present if path != owned]
        others = [conform(zone, self.read(path)) for path in merged_in]
        for rows in others:
            lake_quality.count(zone, rows)
        own = [self.read(owned)] if owned in present else []
        merged = merge(zone, [*own, *others, table])
        if merged.num_rows:
            # It takes the place of rows that were on the disk, and of files that go.
            self.store(owned, parquet(merged), durable=True)
        self.remove(merged_in)


def parquet(table: pa.Table) -> pa.Buffer:
    """A table as a Parquet file; the same rows give the same bytes."""
    body = pa.BufferOutputStream()
    # Parquet's pages end where Arrow's chunks do, and those tell in which batches the rows came.
    pq.write_table(table.combine_chunks(), body, compression="zstd")
    return body.getvalue()


def read_zone(
    lake_url: str, zone: Zone, symbol: str, start_ns: int, end_ns: int, s3_endpoint: str = "",
) -> pa.Table:
    """A symbol's rows with `ts_event` in [start, end]; of one second's rows only the newest `created`.

    `Lake.read` of `feature_repo.lake_reader` gives every row that was ever known.
    """
    return newest(zone, Lake.open(lake_url, s3_endpoint).read(zone, symbol, start_ns, end_ns))


def newest(zone: Zone, rows: pa.Table) -> pa.Table:
    """Of rows (in identity order) that differ only by `created`, the last one."""
    keys = [name for name in identity(zone) if name != "created"]
    if "created" not in identity(zone) or rows.num_rows < 2:
        return rows
    columns = [rows[name].combine_chunks() for name in keys]
    followed = pc.equal(columns[0][:-1], columns[0][1:])
    for column in columns[1:]:
        followed = pc.and_(followed, pc.equal(column[:-1], column[1:]))
    return rows.filter(pa.concat_arrays([pc.invert(followed), pa.array([True])]))


def _decode(zone: Zone, records: pa.Table) -> tuple[list[Message], list[Refused]]:
    messages: list[Message] = []
    refused: list[Refused] = []
    for record in records.to_pylist():
        try:
            messages.append(_expect(zone, topics.decode(record["value"] or b"", record["schema"])))
        except (InvalidMessage, UnknownSchema) as error:
            refused.append(Refused(record, error))
    return messages, refused


def _expect(zone: Zone, message: Message) -> Message:
    if not isinstance(message, MESSAGES[zone]):
        raise InvalidMessage(f"expected a {MESSAGES[zone].__name__} in zone {zone}, found a {type(message).__name__}")
    return message


def _by_folder(zone: Zone, messages: Sequence[Row]) -> dict[str, list[Any]]:
    by_hour: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for message in messages:
        by_hour[message.symbol, message.ts_event // HOUR_NS].append(message)  # type: ignore[union-attr]
    found: dict[str, list[Any]] = defaultdict(list)
    for (symbol, hour), group in by_hour.items():
        found[hour_folder(zone, symbol, hour * HOUR_NS)] += group
    return found


def _content_hash(rows: pa.Table) -> str:
    """12 hex digits of the rows themselves, whatever the file format's version writes around them."""
    digest = hashlib.sha256()
    for batch in rows.combine_chunks().to_batches():
        digest.update(batch.serialize())
    return digest.hexdigest()[:12]


def _sync(path: str) -> None:
    """Have a local file or folder on the disk: after a power cut what was merged must not be gone with its sources."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
