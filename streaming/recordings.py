"""Recordings: the index of a folder of recorded frames, one JSON line a file, true after any kill.

    index = Index.open(folder)                  # repairs what a kill left, forgets what is gone
    [entry.file for entry in index.entries], index.bytes

    $ candlewick recordings --json

A row says what its file holds (symbol, first and last receive time, frames, trade ids, bytes, SHA-256) and how it joins
the file before it of the same symbol: `begins`, the gap in time and the trade ids that neither has. The index is
written whole beside itself and renamed. A file is told of when it is opened and again when it is complete; one that a
killed recorder left open is read up to its tear, written anew without it and marked `torn`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import structlog

from feature_repo.contracts import Source
from streaming.recording import Line, LineWriter, read_lines

log = structlog.get_logger()

INDEX = "index.jsonl"
SNAPSHOT = '{"lastUpdateId"'
"""How a REST depth snapshot among the frames begins."""
NAME = re.compile(r"spot_(?P<symbol>[a-z0-9]+)_\d{8}T\d{12}Z_\d{6}\.zst")
Begins = Literal["start", "reconnect", "rotation", "unknown"]


@dataclass(frozen=True)
class Entry:
    """One file of the index. Times are receive times, ns UTC."""

    file: str
    symbol: str
    source: Source
    begins: Begins
    """The first of a run, after a lost connection, in the middle of one (nothing lies between), or nobody knows."""
    first_ns: int
    last_ns: int
    frames: int
    snapshots: int
    trades: int
    first_trade_id: int | None
    last_trade_id: int | None
    bytes: int
    sha256: str
    complete: bool = True
    """False while it is being written."""
    torn: bool = False
    """The recorder was killed: a second of frames at the end may be missing."""
    gap_ns: int | None = None
    """Since the last frame of the symbol's file before; negative when the two overlap; null without one."""
    missing_trades: int | None = None
    """Trade ids between the two that neither holds; negative when they overlap; null where nobody can tell."""


@dataclass
class Contents:
    """What the lines of one file come to."""

    symbol: str
    first_ns: int
    """When the file was opened, until there is a line."""
    last_ns: int
    source: Source = "recording"
    begins: Begins = "unknown"
    frames: int = 0
    snapshots: int = 0
    trade_ids: list[int] = field(default_factory=list)
    """First and last, once there is one."""
    trades: int = 0

    def add(self, receive_ns: int, trade_id: int | None, *, snapshot: bool = False) -> None:
        """Count a line."""
        if not self.frames + self.snapshots:
            self.first_ns = self.last_ns = receive_ns
        self.last_ns = max(self.last_ns, receive_ns)
        self.frames += not snapshot
        self.snapshots += snapshot
        if trade_id is not None:
            self.trades += 1
            self.trade_ids = [self.trade_ids[0] if self.trade_ids else trade_id, trade_id]

    def add_line(self, line: Line) -> None:
        """Count a line by what it says."""
        self.add(line.receive_ns, trade_id(*stream_of(line.text)), snapshot=line.text.startswith(SNAPSHOT))

    def entry(self, file: str, size: int, sha256: str, *, complete: bool = True, torn: bool = False) -> Entry:
        first, last = self.trade_ids or (None, None)
        return Entry(
            file, self.symbol, self.source, self.begins, self.first_ns, self.last_ns, self.frames, self.snapshots,
            self.trades, first, last, size, sha256, complete, torn,
        )


@dataclass
class Index:
    """The index of one folder: `entries` by symbol and first receive time, each joined to the one before."""

    folder: Path
    entries: list[Entry] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Index:
        """The index as it was last written; touches nothing. Raises `ValueError` for a line that is none of ours."""
        path = folder / INDEX
        lines = path.read_text().splitlines() if path.exists() else []
        return cls(folder, [_entry(line, path, number) for number, line in enumerate(lines, 1)])

    @classmethod
    def open(cls, folder: Path) -> Index:
        """The index made true: only a recorder may, and one recorder a folder."""
        index = cls.read(folder)
        present = {path.name: path for path in sorted(folder.glob("*.zst")) if NAME.fullmatch(path.name)}
        gone = [entry.file for entry in index.entries if entry.file not in present]
        if gone:
            log.warning("indexed_files_are_gone", files=gone)
        told = {entry.file: entry for entry in index.entries if entry.file in present}
        kept = [entry for entry in told.values() if entry.complete]
        left_open = [path for name, path in present.items() if name not in told or not told[name].complete]
        found = [_repaired(path, told.get(path.name)) for path in left_open]
        index.set([*kept, *(entry for entry in found if entry is not None)])
        return index

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.entries)

    def put(self, entry: Entry) -> None:
        """Take a file's row, in place of the one it had."""
        self.set([*(other for other in self.entries if other.file != entry.file), entry])

    def drop_oldest(self) -> Entry | None:
        """Delete the complete file that ends first, of whatever symbol; None when there is none."""
        complete = [entry for entry in self.entries if entry.complete]
        oldest = min(complete, key=lambda entry: entry.last_ns, default=None)
        if oldest is not None:
            self.drop(oldest.file)
        return oldest

    def drop(self, file: str) -> None:
        """Delete a file, then its row."""
        (self.folder / file).unlink(missing_ok=True)
        self.set([entry for entry in self.entries if entry.file != file])

    def of(self, symbol: str, start_ns: int, end_ns: int) -> list[Entry]:
        """A symbol's files that hold frames received in [start, end], in order."""
        return [e for e in self.entries if e.symbol == symbol and e.last_ns >= start_ns and e.first_ns <= end_ns]

    def set(self, entries: Iterable[Entry]) -> None:
        """Make these the rows, on disk first in a file beside."""
        self.entries = list(joined(entries))
        partial = self.folder / f"{INDEX}.tmp"
        partial.write_text("".join(json.dumps(asdict(entry)) + "\n" for entry in self.entries))
        partial.replace(self.folder / INDEX)


def joined(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Entries in order, each with what lies between it and the symbol's one before."""
    before: Entry | None = None
    for entry in sorted(entries, key=lambda entry: (entry.symbol, entry.first_ns)):
        if before is None or before.symbol != entry.symbol:
            yield replace(entry, gap_ns=None, missing_trades=None)
        else:
            yield replace(entry, gap_ns=entry.first_ns - before.last_ns, missing_trades=_between(before, entry))
        # A file without a trade does not hide how far the ids had come.
        last = entry.last_trade_id if entry.last_trade_id is not None or before is None else before.last_trade_id
        before = replace(entry, last_trade_id=last)


def trade_id(stream: str, data: Any) -> int | None:
    """The trade id of a frame; null when it is not a trade's.

    >>> trade_id("btcusdt@trade", {"t": 7}), trade_id("btcusdt@bookTicker", {"u": 7})
    (7, None)
    """
    found = data.get("t") if stream.endswith("@trade") and isinstance(data, dict) else None
    return found if isinstance(found, int) else None


def stream_of(text: str) -> tuple[str, Any]:
    """Stream name and data of a frame; an empty name for what is none.

    >>> stream_of('{"stream":"btcusdt@trade","data":{"t":7}}'), stream_of("[]")
    (('btcusdt@trade', {'t': 7}), ('', None))
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return "", None
    return (str(body.get("stream", "")), body.get("data")) if isinstance(body, dict) else ("", None)


def table(folder: Path) -> dict[str, Any]:
    """The index and its sums, for the command line. Raises `ValueError` when there is none."""
    index = Index.read(folder)
    if not index.entries:
        raise ValueError(f"recordings expected in {folder}, found none; `candlewick record` makes some")
    return {
        "folder": str(folder), "files": [asdict(entry) for entry in index.entries], "bytes": index.bytes,
        "frames": sum(entry.frames for entry in index.entries),
        "gaps": sum(bool(entry.missing_trades) for entry in index.entries),
        "torn": sum(entry.torn for entry in index.entries),
    }


def text(found: dict[str, Any]) -> str:
    """The same for people."""
    rows = [
        f"{e['file']:<50} {(e['last_ns'] - e['first_ns']) / 1e9:>8.0f} s {e['frames']:>9} frames "
        f"{e['bytes'] / 1e6:>8.1f} MB  {e['begins']}{_joint(e)}{_state(e)}"
        for e in found["files"]
    ]
    summary = f"{len(rows)} files, {found['bytes'] / 1e6:.1f} MB, {found['gaps']} with trades missing before them"
    return "\n".join([*rows, summary])


def _state(entry: dict[str, Any]) -> str:
    return " torn" if entry["torn"] else "" if entry["complete"] else " open"


def _joint(entry: dict[str, Any]) -> str:
    if entry["gap_ns"] is None:
        return ""
    missing = "?" if entry["missing_trades"] is None else entry["missing_trades"]
    return f" after {entry['gap_ns'] / 1e9:.1f} s, {missing} trades missing"


def _between(before: Entry, entry: Entry) -> int | None:
    if before.last_trade_id is None or entry.first_trade_id is None:
        return None
    return entry.first_trade_id - before.last_trade_id - 1


def _entry(line: str, path: Path, number: int) -> Entry:
    try:
        entry = Entry(**json.loads(line))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}:{number}: expected a row of the index, found {line[:80]!r}; {error}") from error
    if entry.begins not in get_args(Begins) or "/" in entry.file:
        raise ValueError(f"{path}:{number}: expected a file of this folder, found {entry.file!r} {entry.begins!r}")
    return entry


def _repaired(path: Path, told: Entry | None) -> Entry | None:
    """Write a file that was left open anew, as far as it can be read; one without a whole line is removed."""
    named = NAME.fullmatch(path.name)
    assert named is not None
    found = Contents(named["symbol"].upper(), 0, 0)
    if told is not None:
        found.source, found.begins = told.source, told.begins
    partial = path.with_name(f"partial-{path.name}")
    partial.unlink(missing_ok=True)
    with LineWriter(partial) as writer:
        for line in _readable(path):
            writer.write(line)
            found.add_line(line)
    if not writer.lines:
        log.warning("recording_holds_nothing", file=path.name)
        partial.unlink()
        path.unlink()
        return None
    partial.replace(path)
    log.warning("recording_repaired", file=path.name, frames=found.frames)
    return found.entry(path.name, writer.bytes, writer.sha256, torn=True)


def _readable(path: Path) -> Iterator[Line]:
    try:
        yield from read_lines([path])
    except ValueError as error:
        log.warning("recording_ends_unreadable", file=path.name, reason=str(error))
