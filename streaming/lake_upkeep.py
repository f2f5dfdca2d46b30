"""Lake upkeep: hours that are over become one file, what is older than its zone is kept goes, the rest is counted.

    upkeep = Upkeep(writer, keep_days({"raw=30"}), time.time_ns)
    upkeep()                                  # a little work, between two batches of the lake's one writer
    upkeep.survey().as_dict()                 # what `candlewick lake status` shows

Raw hours are merged ten minutes after their end, revisions at once. What is to be done is found out every five minutes
by listing the lake; each call then does some megabytes of it. A failure is logged and tried again at the next listing:
the stream goes on without it. Clock: the wall's, as the broker's times that name raw hours.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge
from pyarrow import fs

from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS, NANOS
from feature_repo.lake_layout import ZONES, Zone, folder_end, hour_of, owner_of
from streaming.compaction import compact
from streaming.lake import LakeWriter

OVER_NS = 10 * MINUTE_NS
"""After an hour's end: what its last batches bring has come."""
EVERY_NS = 5 * MINUTE_NS
BYTES_A_CALL = 16_000_000
STALE_NS = HOUR_NS
"""A temporary file this old belongs to nobody who lives."""
log = structlog.get_logger()


@dataclass
class Hour:
    """One hour of a zone and base asset: how many files, how many of them wait for the hour's own, and their size."""

    zone: Zone
    folder: str
    """Relative to the lake's root."""
    start_ns: int
    files: int = 0
    waiting: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Survey:
    """The lake's hours as they were listed, oldest first, and the temporary files that nobody will finish."""

    hours: tuple[Hour, ...]
    stale: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """By zone: files, waiting, bytes, hours, first and last hour."""
        return {zone: _totals([hour for hour in self.hours if hour.zone == zone]) for zone in ZONES}

    def due(self, now_ns: int) -> list[Hour]:
        """Hours with something to merge."""
        return [
            hour for hour in self.hours
            if hour.waiting and (hour.zone != "raw" or hour.start_ns + HOUR_NS + OVER_NS <= now_ns)
        ]

    def expired(self, keep: Mapping[Zone, int], now_ns: int) -> list[Hour]:
        """Hours that ended longer ago than their zone is kept."""
        return [
            hour for hour in self.hours
            if hour.zone in keep and folder_end(hour.zone, hour.start_ns) < now_ns - keep[hour.zone] * DAY_NS
        ]


class LakeMetrics:
    """The lake's disk figures for Prometheus."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.bytes = Gauge("candlewick_lake_bytes", "Size of a zone's files.", ["zone"], registry=registry)
        self.files = Gauge("candlewick_lake_files", "Files of a zone.", ["zone"], registry=registry)
        self.waiting = Gauge(
            "candlewick_lake_waiting_files", "Files that are to be merged into their hour's.", ["zone"],
            registry=registry,
        )
        self.oldest = Gauge(
            "candlewick_lake_oldest_hour_timestamp_seconds", "Start of a zone's oldest hour.", ["zone"],
            registry=registry,
        )
        self.free = Gauge("candlewick_lake_free_bytes", "Space left where the lake lies; local ones only.",
                          registry=registry)
        self.merged = Counter("candlewick_lake_merged_files_total", "Files merged into their hour's.", ["zone"],
                              registry=registry)
        self.expired = Counter("candlewick_lake_expired_hours_total", "Hours removed by retention.", ["zone"],
                               registry=registry)
        self.failures = Counter("candlewick_lake_upkeep_failures_total", "Upkeep that failed and is tried again.",
                                registry=registry)

    def show(self, survey: Survey, free: int | None) -> None:
        for zone, totals in survey.as_dict().items():
            for gauge, name in ((self.bytes, "bytes"), (self.files, "files"), (self.waiting, "waiting")):
                gauge.labels(zone).set(totals[name])
        oldest = {hour.zone: hour.start_ns for hour in reversed(survey.hours)}
        for zone, start in oldest.items():
            self.oldest.labels(zone).set(start / NANOS)
        if free is not None:
            self.free.set(free)


@dataclass
class Upkeep:
    """The owner's housekeeping, a little at each call. `keep`: zone → days; a zone that it lacks is kept for ever."""

    writer: LakeWriter
    keep: Mapping[Zone, int]
    now_ns: Callable[[], int]
    metrics: LakeMetrics | None = None
    _todo: deque[tuple[Callable[[Hour], object], Hour]] = field(default_factory=deque)
    _next_survey: int = 0

    def __call__(self) -> None:
        if not self._todo and self.now_ns() >= self._next_survey:
            self._next_survey = self.now_ns() + EVERY_NS
            self._try("survey", self._plan)
        done = 0
        while self._todo and done < BYTES_A_CALL:
            step, hour = self._todo.popleft()
            self._try(hour.folder, partial(step, hour))
            # A file costs about as much as opening it does, however small it is.
            done += hour.bytes + 50_000 * hour.files

    def all_due(self) -> dict[str, int]:
        """Merge everything that is due, now. Returns files merged by zone."""
        merged: dict[str, int] = dict.fromkeys(ZONES, 0)
        survey = self.survey()
        for hour in survey.due(self.now_ns()):
            merged[hour.zone] += self.merge(hour)
        self.writer.remove(survey.stale)
        return merged

    def all_expired(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Remove everything that is past its time, now. Returns hours and bytes by zone."""
        hours = self.survey().expired(self.keep, self.now_ns())
        if not dry_run:
            for hour in hours:
                self.expire(hour)
        return {zone: _totals([hour for hour in hours if hour.zone == zone]) for zone in self.keep}

    def survey(self) -> Survey:
        """List the whole lake."""
        found: dict[str, Hour] = {}
        stale: list[str] = []
        for zone in ZONES:
            selector = fs.FileSelector(f"{self.writer.root}/{zone}", allow_not_found=True, recursive=True)
            for info in self.writer.filesystem.get_file_info(selector):
                if info.is_file and info.path.endswith(".parquet"):
                    _count(found, zone, info, self.writer.root)
                elif info.is_file and info.path.endswith(".tmp") and info.mtime_ns + STALE_NS < self.now_ns():
                    stale.append(info.path)
        return Survey(tuple(sorted(found.values(), key=lambda hour: (hour.start_ns, hour.folder))), tuple(stale))

    def merge(self, hour: Hour) -> int:
        """Make an hour's files one (a topic and partition, in raw). Returns how many went into it."""
        count = compact(self.writer, hour.zone, hour.folder)
        if self.metrics:
            self.metrics.merged.labels(hour.zone).inc(count)
        return count

    def expire(self, hour: Hour) -> None:
        """Remove an hour: merged first, so that it goes at once and not file by file."""
        self.merge(hour)
        self.writer.remove(self.writer.present(hour.folder))
        self._remove_folder(hour)
        if self.metrics:
            self.metrics.expired.labels(hour.zone).inc()
        log.info("lake hour expired", folder=hour.folder, bytes=hour.bytes)

    def free_bytes(self) -> int | None:
        """Space left on the lake's disk; null on S3."""
        if self.writer.filesystem.type_name != "local" or not Path(self.writer.root).is_dir():
            return None
        return shutil.disk_usage(self.writer.root).free

    def _plan(self) -> None:
        survey, now = self.survey(), self.now_ns()
        if self.metrics:
            self.metrics.show(survey, self.free_bytes())
        expired = survey.expired(self.keep, now)
        self._todo.extend((self.expire, hour) for hour in expired)
        gone = {hour.folder for hour in expired}
        self._todo.extend((self.merge, hour) for hour in survey.due(now) if hour.folder not in gone)
        self.writer.remove(survey.stale)

    def _try(self, what: str, work: Callable[[], object]) -> None:
        """One hour that cannot be merged keeps none of the others from it."""
        try:
            work()
        except (OSError, ValueError, pa.ArrowException) as error:
            if self.metrics:
                self.metrics.failures.inc()
            log.error("lake upkeep failed", what=what, reason=f"{type(error).__name__}: {error}")

    def _remove_folder(self, hour: Hour) -> None:
        """An hour's folder, and that of its date when it was the last: what others may be adding there now stays."""
        date = f"{self.writer.root}/{hour.folder.rsplit('/', 1)[0]}"
        self.writer.filesystem.delete_dir(f"{self.writer.root}/{hour.folder}")
        if self.writer.filesystem.type_name == "local":
            with suppress(OSError):  # it is not empty
                Path(date).rmdir()
        elif self._is_over(hour) and not self.writer.filesystem.get_file_info(fs.FileSelector(date, True)):
            self.writer.filesystem.delete_dir(date)

    def _is_over(self, hour: Hour) -> bool:
        """Whether all of an hour's date is past its time: S3 removes a folder only with all that is in it."""
        return hour.start_ns // DAY_NS * DAY_NS + DAY_NS <= self.now_ns() - self.keep[hour.zone] * DAY_NS


def keep_days(retention: Iterable[str]) -> dict[Zone, int]:
    """Days by zone. Raises `ValueError` for anything that is not `zone=days`.

    >>> keep_days(("raw=30",))
    {'raw': 30}
    """
    found: dict[Zone, int] = {}
    for text in retention:
        zone, _, days = text.partition("=")
        if zone not in ZONES or not days.isdecimal() or int(days) < 1:
            raise ValueError(f"lake_retention: expected one of {', '.join(ZONES)} with its days, such as raw=30; "
                             f"found {text!r}")
        found[zone] = int(days)
    return found


def table(zones: Mapping[str, Mapping[str, Any]]) -> str:
    """A survey for people."""
    return "\n".join(
        f"{zone:<12} {t['files']:>7} files {t['waiting']:>6} waiting {t['bytes'] / 1e6:>10.1f} MB {t['hours']:>6} hours"
        f"  {t['first'] or ''} … {t['last'] or ''}" for zone, t in zones.items()
    )


def _count(found: dict[str, Hour], zone: Zone, info: Any, root: str) -> None:
    parent, name = info.path.rsplit("/", 1)
    if "/date=" not in parent or "/hour=" not in parent:
        return  # not ours
    hour = found.setdefault(parent, Hour(zone, parent.removeprefix(f"{root}/"), hour_of(info.path)))
    hour.files += 1
    hour.waiting += name != owner_of(zone, name)
    hour.bytes += info.size


def _totals(hours: list[Hour]) -> dict[str, Any]:
    return {
        "files": sum(hour.files for hour in hours), "waiting": sum(hour.waiting for hour in hours),
        "bytes": sum(hour.bytes for hour in hours), "hours": len({hour.start_ns for hour in hours}),
        "first": _text(hours[0]) if hours else None, "last": _text(hours[-1]) if hours else None,
    }


def _text(hour: Hour) -> str:
    return datetime.fromtimestamp(hour.start_ns // NANOS, UTC).strftime("%Y-%m-%dT%H:%MZ")
