"""Compaction: what waits beside an hour's file becomes part of it; only the owner of the lake may.

    compact(writer, "raw", "raw/btc/date=2024-08-09/hour=00")        # → 1440: so many files became one a topic

Write, then remove: the hour's file, which was there before, is replaced by all rows of the hour, then the files that
went into it are deleted. A kill in between leaves rows twice, never none; the same call again ends what was begun.
A raw hour is merged file by file, so that memory holds one batch and the compressed hour. Its bytes follow from its
rows alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.lake_layout import RAW_SCHEMA, Zone, conform, merge, owner_of, raw_offsets
from streaming.lake import LakeWriter

ROWS_PER_GROUP = 8_192
Kept = Callable[[pa.Table], pa.Table]


def compact(writer: LakeWriter, zone: Zone, folder: str) -> int:
    """Merge an hour (`folder` relative to the lake's root). Returns how many files were merged and removed."""
    if zone != "raw":
        return writer.merge_revisions(zone, folder)
    return sum(
        _replace(writer, owned, paths) for owned, paths in hour_files(writer, folder).items() if paths != [owned]
    )


def canonical(writer: LakeWriter, folder: str, kept: Kept) -> None:
    """A raw hour as one file a topic and partition that holds the rows that `kept` keeps, the same bytes every time."""
    for owned, paths in hour_files(writer, folder).items():
        _replace(writer, owned, paths, kept, may_be_empty=False)


def hour_files(writer: LakeWriter, folder: str) -> dict[str, list[str]]:
    """Owned file of a raw hour → the files that belong in it, itself included where it is there."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in writer.present(folder):
        parent, name = path.rsplit("/", 1)
        found[f"{parent}/{owner_of('raw', name)}"].append(path)
    return dict(found)


def _replace(
    writer: LakeWriter, owned: str, paths: Sequence[str], kept: Kept = lambda rows: rows, *, may_be_empty: bool = True,
) -> int:
    merged_in = [path for path in paths if path != owned]
    body, count = _hour(map(kept, _in_order(writer, paths)))
    if count or may_be_empty:
        writer.store(owned, body, durable=True)
    else:
        merged_in = list(paths)
    writer.remove(merged_in)
    return len(merged_in)


def _hour(tables: Iterable[pa.Table]) -> tuple[pa.Buffer, int]:
    """Tables in order as one file, and its number of rows."""
    body, count = pa.BufferOutputStream(), 0
    with pq.ParquetWriter(body, RAW_SCHEMA, compression="zstd") as out:
        for group in _groups(tables):
            out.write_table(group)
            count += group.num_rows
    return body.getvalue(), count


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in groups of one size, so that the file does not tell in which files they came."""
    held = RAW_SCHEMA.empty_table()
    for table in tables:
        held = pa.concat_tables([held, table])
        while held.num_rows >= ROWS_PER_GROUP:
            yield held.slice(0, ROWS_PER_GROUP).combine_chunks()
            held = held.slice(ROWS_PER_GROUP)
    if held.num_rows:
        yield held.combine_chunks()


def _in_order(writer: LakeWriter, paths: Iterable[str]) -> Iterator[pa.Table]:
    """Each offset once, ascending: files one after the other, those that overlap together."""
    spans = sorted((*span, path) for path in paths if (span := _span(writer, path)))
    while spans:
        _, last, path = spans.pop(0)
        together = [path]
        while spans and spans[0][0] <= last:
            _, end, path = spans.pop(0)
            last, together = max(last, end), [*together, path]
        if len(together) == 1:
            yield from _parts(writer, together[0])
        else:
            yield merge("raw", map(writer.read, together))


def _span(writer: LakeWriter, path: str) -> tuple[int, int] | None:
    if (named := raw_offsets(path.rsplit("/", 1)[1])) is not None:
        return named
    with writer.filesystem.open_input_file(path) as file:
        ends = pc.min_max(pq.read_table(file, columns=["offset"], partitioning=None)["offset"])
    first, last = ends["min"].as_py(), ends["max"].as_py()
    return None if first is None else (first, last)


def _parts(writer: LakeWriter, path: str) -> Iterator[pa.Table]:
    with writer.filesystem.open_input_file(path) as file:
        found = pq.ParquetFile(file)
        for number in range(found.num_row_groups):
            yield conform("raw", found.read_row_group(number))
