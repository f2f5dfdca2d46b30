"""Lake faults: every writer of the lake, a file system that dies at the n-th operation, and what must hold then.

    died = kill_at("compaction", url, endpoint, point=7)      # in a process of its own, by SIGKILL

An operation is a folder made, a file opened, half written, written, closed, renamed or deleted, a folder deleted;
point 2n is before operation n, point 2n + 1 after it.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Self, cast
from urllib.parse import urlparse

import boto3
import pyarrow as pa
from pyarrow import fs

from feature_repo import slow_features, topics
from feature_repo.contracts import DAY_NS, HOUR_NS, SECOND_NS, Bar, Message
from feature_repo.lake_layout import RAW_SCHEMA, Zone, filesystem, to_table
from feature_repo.lake_reader import Lake
from streaming.compaction import compact
from streaming.lake import LakeWriter
from streaming.lake_upkeep import Upkeep
from streaming.settle import settle
from streaming.stretch import Stretch
from tests.feature_repo.made_observations import made_fear_greed
from tests.feature_repo.made_rows import made_row

HOUR = 478_655 * HOUR_NS
FOLDER = "date=2024-08-08/hour=23"
TRADES, BOOK = "crypto.btc.trades", "crypto.btc.orderbook"
EVER = (HOUR - 48 * HOUR_NS, HOUR + 48 * HOUR_NS)
Hook = Callable[[int], None]
Contents = dict[str, list[Any]]
Lying = frozenset[tuple[str, str]]


@dataclass
class Dying:
    """A file system that calls `hook` with the number of each point it passes. Reading is no point."""

    real: Any
    hook: Hook
    points: int = 0

    @property
    def type_name(self) -> str:
        return str(self.real.type_name)

    def get_file_info(self, selector: Any) -> Any:
        return self.real.get_file_info(selector)

    def open_input_file(self, path: str) -> Any:
        return self.real.open_input_file(path)

    def open_input_stream(self, path: str) -> Any:
        return self.real.open_input_stream(path)

    def open_output_stream(self, path: str) -> Any:
        return DyingStream(self, self.do(lambda: self.real.open_output_stream(path)))

    def create_dir(self, path: str, *, recursive: bool) -> None:
        self.do(lambda: self.real.create_dir(path, recursive=recursive))

    def move(self, source: str, target: str) -> None:
        self.do(lambda: self.real.move(source, target))

    def delete_file(self, path: str) -> None:
        self.do(lambda: self.real.delete_file(path))

    def delete_dir(self, path: str) -> None:
        self.do(lambda: self.real.delete_dir(path))

    def do(self, operation: Callable[[], Any]) -> Any:
        self.pass_point()
        found = operation()
        self.pass_point()
        return found

    def pass_point(self) -> None:
        self.hook(self.points)
        self.points += 1


@dataclass
class DyingStream:
    """The stream of a file: it may end half written."""

    files: Dying
    real: Any

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if kind is None:  # what dies in the middle closes nothing
            self.files.do(self.real.close)

    def write(self, body: pa.Buffer) -> None:
        half = body.size // 2
        self.real.write(body.slice(0, half))
        self.files.pass_point()
        self.real.write(body.slice(half))
        self.files.pass_point()


def bar(second: int, close: float = 100.0, created_after: int = 1) -> Bar:
    at = HOUR + second * SECOND_NS
    return Bar(
        symbol="BTCUSDT", ts_event=at, ts_init=at, source="recording", session="s", interval_s=1,
        open_time=at - SECOND_NS, close_time=at, open=close, high=close, low=close, close=close, volume=1.0,
        quote_volume=close, vwap=close, trades=1, taker_buy_volume=0.5, created=at + created_after * SECOND_NS,
        provenance="live" if created_after == 1 else "reconcile",
    )


def records(topic: str, messages: list[Message], first_offset: int, at_ns: int, step_ns: int = 0) -> pa.Table:
    """Kafka records of one partition, `step_ns` apart."""
    return pa.Table.from_pylist([
        {"topic": topic, "partition": 0, "offset": first_offset + i,
         "kafka_timestamp": datetime.fromtimestamp((at_ns + i * step_ns) / 1e9, UTC), "key": "BTCUSDT",
         "schema": topics.header(message), "value": topics.encode(message)} for i, message in enumerate(messages)
    ], RAW_SCHEMA)


@dataclass(frozen=True)
class Writer:
    """A writer of the lake: what lies there before, and what it does."""

    prepare: Callable[[LakeWriter], None]
    act: Callable[[LakeWriter], None]


def _hours_of_bars(writer: LakeWriter) -> None:
    writer.upsert("clean", [bar(3600 * hour + 1) for hour in range(4)])


def _batches(writer: LakeWriter, count: int = 12) -> None:
    for batch in range(count):
        for topic in (TRADES, BOOK):
            made: list[Message] = [bar(batch * 10 + i) for i in range(10)]
            writer.write_batch(records(topic, made, batch * 10, HOUR + batch * 60 * SECOND_NS))


def _batch_of_all(writer: LakeWriter) -> None:
    bars: list[Message] = [bar(2), bar(3602)]
    at = HOUR + 900 * SECOND_NS
    writer.write_batch(pa.concat_tables(
        records(topic, bars, 900, at) for topic in (TRADES, BOOK, topics.CLEAN)))


def _revisions(writer: LakeWriter) -> None:
    writer.upsert("clean", [bar(second) for second in range(1, 20)])
    for number in range(10):
        writer.add_revision("clean", [bar(number + 1, 101.0, 900 + number)], "reconcile")


def _strays(writer: LakeWriter) -> None:
    """Batches whose records go on into the next hours, and bars around the stretch."""
    for batch in range(5):
        made: list[Message] = [bar(batch * 10 + i) for i in range(10)]
        writer.write_batch(records(TRADES, made, batch * 10, HOUR + batch * SECOND_NS, 700 * SECOND_NS))
    writer.upsert("clean", [bar(second) for second in (-1, 1, 5, 3599, 3601)])
    writer.add_revision("clean", [bar(5, 101.0, 900)], "reconcile")


def _expire(writer: LakeWriter) -> None:
    Upkeep(writer, {"raw": 1, "clean": 1}, lambda: HOUR + 2 * HOUR_NS + DAY_NS).all_expired()


def _old_hours(writer: LakeWriter) -> None:
    _batches(writer, 3)
    _revisions(writer)
    writer.upsert("clean", [bar(3 * 3600)])


def _older_rows(writer: LakeWriter) -> None:
    _hours_of_bars(writer)
    writer.upsert("features", [made_row(3600 * hour) for hour in range(3)])


def _backfill(writer: LakeWriter) -> None:
    """As the verb does: what the rows hold, rows, then bars."""
    writer.declare()
    writer.add_rows("features", to_table("features", [made_row(3600 * hour + 1) for hour in range(3)]), "backfill")
    writer.add_revision("clean", [bar(3600 * hour + 3) for hour in range(2)], "backfill")


def _slow(writer: LakeWriter, days: int) -> None:
    """As the lake query does: rows, then the observations that they are made of."""
    told = made_fear_greed(75)[:days]
    writer.upsert("fear_greed", slow_features.rows(slow_features.VIEW_OF["fear_greed"], "BTCUSDT", told, told))
    writer.upsert("observations", told)


WRITERS: Mapping[str, Writer] = {
    "hour": Writer(_hours_of_bars, lambda writer: writer.upsert("clean", [bar(3600 * h + 2) for h in range(4)])),
    "batch": Writer(lambda writer: _batches(writer, 2), _batch_of_all),
    "revision": Writer(
        _hours_of_bars,
        lambda writer: writer.add_revision("clean", [bar(3600 * h + 1, 101.0, 900) for h in range(4)], "r") and None),
    "backfill": Writer(_older_rows, _backfill),
    "slow": Writer(lambda writer: _slow(writer, 40), lambda writer: _slow(writer, 75)),
    "merge": Writer(_revisions, lambda writer: compact(writer, "clean", f"clean/btc/{FOLDER}") and None),
    "compaction": Writer(_batches, lambda writer: compact(writer, "raw", f"raw/btc/{FOLDER}") and None),
    "retention": Writer(_old_hours, _expire),
    "settle": Writer(_strays, lambda writer: settle(writer, Stretch(HOUR, HOUR + HOUR_NS, ("BTCUSDT",)))),
}


def laid_down(url: str, endpoint: str) -> Lying:
    """Every path of a lake, whatever lies there, with the SHA-256 of its bytes."""
    files, root = filesystem(url, endpoint)
    infos = files.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True))
    return frozenset((info.path.removeprefix(root), _digest(files, info) if info.is_file else "") for info in infos)


def parquet(lying: Lying) -> Lying:
    """What a reader looks at: the Parquet files and what their rows hold, to the last byte."""
    return frozenset((path, digest) for path, digest in lying if path.endswith((".parquet", ".json")))


def _digest(files: Any, info: Any) -> str:
    with files.open_input_stream(info.path) as file:
        return hashlib.sha256(file.read()).hexdigest()


def copy_lake(url: str, to: str, endpoint: str) -> None:
    """The same files under another root; on S3 the same keys, those that stand for folders too."""
    if not endpoint:
        shutil.copytree(urlparse(url).path, urlparse(to).path)
        return
    source, target = urlparse(url), urlparse(to)
    client = _s3(endpoint)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=source.netloc, Prefix=f"{source.path[1:]}/"):
        for key in (held["Key"] for held in page.get("Contents", ())):
            at = target.path[1:] + key.removeprefix(source.path[1:])
            client.copy_object(Bucket=target.netloc, Key=at, CopySource={"Bucket": source.netloc, "Key": key})


@cache
def _s3(endpoint: str) -> Any:
    return boto3.client("s3", endpoint_url=endpoint)


def contents(url: str, endpoint: str) -> Contents:
    """What a reader finds: every row of each hour and topic, by zone, hour and topic."""
    lake, found = Lake.open(url, endpoint), Contents()
    for hour in sorted(set(lake.hours("clean", "btc")) if "clean" in zones(lake) else ()):
        rows = lake.read("clean", "BTCUSDT", hour, hour + HOUR_NS - 1).to_pylist()
        counted = lake.rows("clean", None, hour, hour + HOUR_NS - 1, ["ts_event"])
        assert counted.num_rows == len(rows), "each identity once, whatever columns are asked for"
        found |= {f"clean {hour}": rows} if rows else {}
    for zone in sorted({"features", "fear_greed", "observations"} & zones(lake)):
        for base in lake.bases(cast(Zone, zone)):
            for start in lake.hours(cast(Zone, zone), base):
                held = lake.hour(cast(Zone, zone), base, start).to_pylist()
                found |= {f"{zone} {base} {start}": held} if held else {}
    for topic in (TRADES, BOOK):
        rows = lake.read_raw("btc", topic, *EVER).to_pylist() if "raw" in zones(lake) else []
        for row in rows:
            hour = int(row["kafka_timestamp"].timestamp()) // 3600
            found.setdefault(f"{topic} {hour}", []).append(row)
    return found


def zones(lake: Lake) -> set[str]:
    return {info.base_name for info in lake.filesystem.get_file_info(fs.FileSelector(lake.root, allow_not_found=True))}


def lake_writer(url: str, endpoint: str, hook: Hook | None = None) -> LakeWriter:
    real, root = filesystem(url, endpoint)
    return LakeWriter(real if hook is None else Dying(real, hook), root)


def count_points(name: str, url: str, endpoint: str = "") -> int:
    """How many points a writer passes; it has done its work."""
    writer = lake_writer(url, endpoint, lambda _: None)
    WRITERS[name].act(writer)
    return int(writer.filesystem.points)


def spread(points: int, most: int) -> list[int]:
    """At most so many of the points, evenly, the first and the last among them."""
    return sorted({round(at * (points - 1) / (most - 1)) for at in range(most)})


class Killed(BaseException):
    """What `kill -9` is within one process: nothing that was still to come happens."""


def stop_at(name: str, url: str, point: int) -> bool:
    """Let a writer work here until it comes to a point. Returns whether it did."""
    def die(at: int) -> None:
        if at == point:
            raise Killed

    try:
        WRITERS[name].act(lake_writer(url, "", die))
    except Killed:
        return True
    return False


def check_kills(
    name: str, make: Callable[[str], str], endpoint: str, points: Iterable[int], kill: Callable[[str, int], bool],
) -> None:
    """Kill a writer at points, each on a lake of its own that `make` names, read, repeat, and read again.

    Lakes in which the same bytes lie at the same paths are read once: many points leave what the one before them left.
    """
    prepared, undisturbed = make("prepared"), make("whole")
    WRITERS[name].prepare(lake_writer(prepared, endpoint))
    copy_lake(prepared, undisturbed, endpoint)
    known: dict[Lying, Contents] = {}

    def read(url: str, lying: Lying | None = None) -> Contents:
        lying = lying or laid_down(url, endpoint)
        if lying not in known:
            known[lying] = contents(url, endpoint)
        return known[lying]

    before = read(undisturbed)
    WRITERS[name].act(lake_writer(undisturbed, endpoint))
    after, whole = read(undisturbed), parquet(laid_down(undisturbed, endpoint))
    assert whole
    for point in points:
        url = make(str(point))
        copy_lake(prepared, url, endpoint)
        assert kill(url, point), point
        each_before_or_after(before, after, read(url))
        WRITERS[name].act(lake_writer(url, endpoint))
        lying = laid_down(url, endpoint)
        assert read(url, lying) == after, point
        assert parquet(lying) == whole, point


def each_before_or_after(before: Contents, after: Contents, found: Contents) -> None:
    """Each hour and topic is as it was or as it will be."""
    for part in before.keys() | after.keys() | found.keys():
        assert found.get(part) in (before.get(part), after.get(part)), part


def kill_at(name: str, url: str, endpoint: str, point: int) -> bool:
    """Let a writer work in a process of its own that is killed -9 at a point. Returns whether it was."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    # The server that forks keeps the environment of its own start, which may be before S3's credentials were set.
    process = context.Process(target=_work, args=(name, url, endpoint, point, dict(os.environ)))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL), f"{name} at {point}: {process.exitcode}"
    return process.exitcode != 0


def _work(name: str, url: str, endpoint: str, point: int, environ: dict[str, str]) -> None:
    os.environ.update(environ)

    def die(at: int) -> None:
        if at == point:
            os.kill(os.getpid(), signal.SIGKILL)

    WRITERS[name].act(lake_writer(url, endpoint, die))
    os._exit(0)
