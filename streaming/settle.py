"""Settle: a replay's lake in its one canonical form, so that the same stretch gives the same bytes.

    settle(LakeWriter.open(settings.lake), stretch)
    fingerprint(LakeWriter.open(settings.lake))["sha256"]

What a stream writes is right but tells how it ran: raw files end where batches ended, and the bars that warmed the
windows up lie beside the stretch. Here raw becomes one file an hour, topic and partition, and the other zones keep
the closes of the stretch alone. Only for a lake whose stream has stopped; after a kill, settle again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from feature_repo.contracts import HOUR_NS
from feature_repo.lake_layout import MESSAGES, ZONES, base_folder
from feature_repo.lake_reader import Lake
from streaming.compaction import canonical, compact
from streaming.lake import LakeWriter
from streaming.stretch import Stretch

HOUR_US = HOUR_NS // 1_000


def settle(writer: LakeWriter, stretch: Stretch) -> None:
    """Bring every zone into its canonical form; doing it again changes nothing, or ends what a kill interrupted."""
    lake = Lake(writer.filesystem, writer.root)
    for base in lake.bases("raw"):
        _settle_raw(writer, lake, base)
    for zone in (zone for zone in ZONES if zone in MESSAGES):
        for base in lake.bases(zone):
            for hour in list(lake.hours(zone, base)):
                folder = base_folder(zone, base, hour)
                compact(writer, zone, folder)
                _cut(writer, folder, stretch)


def fingerprint(writer: LakeWriter) -> dict[str, Any]:
    """Every file's path and SHA-256, and one over all of them."""
    files = {path: hashlib.sha256(_bytes(writer, f"{writer.root}/{path}")).hexdigest() for path in _paths(writer)}
    whole = hashlib.sha256("".join(f"{path} {digest}\n" for path, digest in files.items()).encode())
    return {"sha256": whole.hexdigest(), "files": files}


def _settle_raw(writer: LakeWriter, lake: Lake, base: str) -> None:
    """Each record into the hour of its own time: it is there before it is taken out of that of its batch."""
    for hour in list(lake.hours("raw", base)):
        for path in writer.present(base_folder("raw", base, hour)):
            for at, part in _by_hour(writer.read(path)):
                if at != hour:
                    writer.write_batch(part)
    for hour in list(lake.hours("raw", base)):
        folder = base_folder("raw", base, hour)
        canonical(writer, folder, lambda rows, hour=hour: rows.filter(_is_in(hour, rows)))  # type: ignore[misc]
        _remove_if_empty(writer, folder)


def _by_hour(rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    for hour in sorted(pc.unique(_hours(rows)).to_pylist()):
        yield hour, rows.filter(_is_in(hour, rows))


def _is_in(hour: int, rows: pa.Table) -> pa.Array:
    return pc.equal(_hours(rows), hour)


def _hours(rows: pa.Table) -> pa.Array:
    """Start of the hour of each record's own time, ns."""
    return pa.array(rows["kafka_timestamp"].cast(pa.int64()).to_numpy() // HOUR_US * HOUR_NS)


def _cut(writer: LakeWriter, folder: str, stretch: Stretch) -> None:
    for path in writer.present(folder):
        rows = writer.read(path)
        inside = rows.filter(pc.and_(
            pc.greater(rows["ts_event"], stretch.start_ns), pc.less_equal(rows["ts_event"], stretch.end_ns),
        ))
        if inside.num_rows:
            writer.put(path, inside)
        else:
            writer.remove([path])
    _remove_if_empty(writer, folder)


def _remove_if_empty(writer: LakeWriter, folder: str) -> None:
    path = f"{writer.root}/{folder}"
    if not writer.filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True)):
        writer.filesystem.delete_dir(path)


def _paths(writer: LakeWriter) -> list[str]:
    """The lake's Parquet files, relative to its root, in order."""
    selector = fs.FileSelector(writer.root, allow_not_found=True, recursive=True)
    found = (info.path for info in writer.filesystem.get_file_info(selector) if info.is_file)
    return sorted(path.removeprefix(f"{writer.root}/") for path in found if path.endswith(".parquet"))


def _bytes(writer: LakeWriter, path: str) -> bytes:
    with writer.filesystem.open_input_stream(path) as file:
        body: bytes = file.read()
        return body
