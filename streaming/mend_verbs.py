"""Mend verbs: `candlewick backfill` and `candlewick reconcile`, symbol by symbol, from the witness asked for.

`backfill --features` asks no witness: it fills in what rows of an older feature set lack, from the bars held.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import httpx
import pyarrow.compute as pc

from feature_repo.contracts import DAY_NS, HOUR_NS
from feature_repo.features import FEATURE_SET
from feature_repo.lake_reader import Lake
from feature_repo.settings import LOOPBACK, Settings
from streaming import lake_history, lake_quality, mend, slow_history
from streaming.fill import Filled, fill
from streaming.lake import LakeWriter
from streaming.lake_owner import is_owned
from streaming.past import NothingTold, Past, Witness, klines, of_files, of_raw
from streaming.revisions import time_text
from streaming.stretch import Stretch, moment
from streaming.venues.binance_rest import RestClient, identity
from streaming.venues.market import one_market


@dataclass(frozen=True)
class Asked:
    """What the command line asked for."""

    symbols: tuple[str, ...]
    span: Stretch | None
    """Null: the last days up to now, which only `backfill` knows."""
    witness: Witness
    files: tuple[Path, ...]
    interval: str


def asked(
    symbols: Sequence[str], start: str | None, end: str | None, source: str, files: Sequence[Path], interval: str,
) -> Asked:
    """The command line's words. Raises `ValueError` naming the one that is wrong."""
    if (start is None) != (end is None):
        raise ValueError("expected both --from and --to; found one of them")
    if source not in get_args(Witness):
        raise ValueError(f"--source: expected {', '.join(get_args(Witness))}; found {source!r}")
    if files or source == "files":
        source = "files"
        if not files or len(symbols) != 1:
            raise ValueError("--source files: expected --frames FILE… and their one --symbol")
    span = Stretch(moment(start), moment(end), tuple(symbols)) if start is not None and end is not None else None
    return Asked(tuple(symbols), span, source, tuple(files), interval)  # type: ignore[arg-type]


def backfill(settings: Settings, given: Asked, days: int) -> dict[str, Any]:
    """Without times weeks of minute bars; with them what the witness tells of the span, and its rows."""
    if given.span is None:
        if given.witness != "klines":
            raise ValueError(f"--source {given.witness}: expected --from and --to; found neither")
        return dict(asyncio.run(lake_history.run(settings, days, given.symbols)))
    span = _settled(given.span)
    lake, writer = _open(settings)
    before = lake_quality.told()
    writer.declare()
    found: dict[str, dict[str, Any]] = {}
    for symbol, past in _told(settings, lake, given, span):
        done = mend.backfill(lake, writer, symbol, past)
        so_far = found.get(symbol, dict.fromkeys(done, 0))
        found[symbol] = {**{name: so_far[name] + done[name] for name in ("told", "bars", "rows")}, "symbol": symbol}
    return {"from": time_text(span.start_ns), "to": time_text(span.end_ns), "source": given.witness,
            "symbols": [found[symbol] for symbol in given.symbols], "expectations_missed": lake_quality.since(before)}


def backfill_features(
    settings: Settings, symbols: Sequence[str], start: str | None, end: str | None,
) -> dict[str, Any]:
    """What rows of the closes in (start, end] lack of this code's features, a UTC day at a time.

    Raises `ValueError` without both times, and while a stream of older code owns the lake: merging, it would drop the
    columns that it does not know.
    """
    if start is None or end is None:
        raise ValueError("--features: expected --from and --to")
    span = _settled(Stretch(moment(start), moment(end), tuple(symbols)))
    lake, writer = _open(settings)
    # Of a lake that other machines share this one's lock says nothing.
    is_anyones = is_owned(settings) or not settings.lake.startswith("file:")
    if is_anyones and (others := _newest_set(lake)) not in (None, FEATURE_SET):
        raise ValueError(f"--features: expected the stream to write feature set {FEATURE_SET}, found its newest row "
                         f"of {others}; restart the stack first")
    before = lake_quality.told()
    writer.declare()
    found = {symbol: Filled(symbol) for symbol in symbols}
    for part in _days(span):
        for symbol in symbols:
            found[symbol].add(fill(lake, writer, symbol, part))
    return {"from": time_text(span.start_ns), "to": time_text(span.end_ns), "source": "features",
            "feature_set": FEATURE_SET, "symbols": [each.as_dict() for each in found.values()],
            "expectations_missed": lake_quality.since(before)}


def _newest_set(lake: Lake) -> str | None:
    """The feature set of the stream's newest row in the lake's newest hour; null when it has none there."""
    hours = [hour for base in lake.bases("features") for hour in islice(lake.hours("features", base), 1)]
    if not hours:
        return None
    rows = lake.rows("features", None, max(hours), max(hours) + HOUR_NS - 1, ["ts_event", "feature_set", "provenance"])
    rows = rows.filter(pc.equal(rows["provenance"], "live"))  # what a verb writes says nothing of the stream
    return str(rows["feature_set"][pc.sort_indices(rows["ts_event"])[-1].as_py()].as_py()) if rows.num_rows else None


def backfill_context(
    settings: Settings, symbols: Sequence[str], start: str | None, end: str | None,
) -> dict[str, Any]:
    """The data folder's slow series and their rows, of all times or of (start, end].

    Raises `ValueError` as `asked`, and when there is no such file.
    """
    if (start is None) != (end is None):
        raise ValueError("expected both --from and --to; found one of them")
    span = (0, slow_history.FAR_NS) if start is None or end is None else (moment(start), moment(end))
    before = lake_quality.told()
    done = slow_history.backfill(*_open(settings), settings.data_dir, symbols, time.time_ns, span)
    return {**done, "expectations_missed": lake_quality.since(before)}


def reconcile(settings: Settings, given: Asked, *, dry_run: bool, most_lines: int) -> dict[str, Any]:
    """Compare, and unless it is a dry run write what differs as revisions."""
    if given.span is None:
        raise ValueError("expected --from and --to; found neither")
    span = _settled(given.span)
    lake, writer = _open(settings)
    before = lake_quality.told()
    if not dry_run:
        writer.declare()
    found: dict[str, dict[str, Any]] = {}
    for symbol, past in _told(settings, lake, given, span):
        done = mend.reconcile(lake, None if dry_run else writer, symbol, past, span, time.time_ns)
        found[symbol] = mend.joined(found.get(symbol), done.as_dict(most_lines), most_lines)
    return {
        "from": time_text(span.start_ns), "to": time_text(span.end_ns), "source": given.witness, "dry_run": dry_run,
        "symbols": [found[symbol] for symbol in given.symbols], "expectations_missed": lake_quality.since(before),
    }


def text(found: dict[str, Any]) -> str:
    """`reconcile` for people: a line a revision, then the counts."""
    lines: list[str] = []
    for each in found["symbols"]:
        lines += each["lines"]
        lines += [f"… and {each['lines_left_out']} more"] if each["lines_left_out"] else []
        lines.append(f"{each['symbol']}: {each['compared']} bars compared with {found['source']}, "
                     f"{each['revised_bars']} bars and {each['revised_rows']} rows "
                     f"{'would be ' if found['dry_run'] else ''}revised")
    return "\n".join(lines)


def _open(settings: Settings) -> tuple[Lake, LakeWriter]:
    writer = LakeWriter.open(settings.lake, settings.s3_endpoint)
    return Lake(writer.filesystem, writer.root), writer


def _settled(span: Stretch) -> Stretch:
    if span.end_ns > time.time_ns() - mend.SETTLED_NS:
        raise ValueError(f"--to: expected a time at least {mend.SETTLED_NS // 10**9} s ago, found "
                         f"{time_text(span.end_ns)}; what is younger may still be on its way through the stream")
    return span


def _told(settings: Settings, lake: Lake, given: Asked, span: Stretch) -> Iterator[tuple[str, Past]]:
    """What the witness tells of each symbol, a UTC day at a time, so that no more than a day's bars are held.

    Files are read whole. Raises `NothingTold` at the end when of some symbol no day is told.
    """
    told: set[str] = set()
    nothing: NothingTold | None = None
    for part in [span] if given.witness == "files" else _days(span):
        pasts = asyncio.run(_klines(settings, given, part)) if given.witness == "klines" else {}
        for symbol in given.symbols:
            try:
                past = pasts[symbol] if pasts else _read(lake, given, symbol, part)
            except NothingTold as error:
                nothing = error  # a day without records, as of an outage, may lie between others
                continue
            told.add(symbol)
            yield symbol, past
    if nothing is not None and told != set(given.symbols):
        raise nothing


def _read(lake: Lake, given: Asked, symbol: str, span: Stretch) -> Past:
    return of_files(given.files, symbol, span) if given.witness == "files" else of_raw(lake, symbol, span)


def _days(span: Stretch) -> Iterator[Stretch]:
    start = span.start_ns
    while start < span.end_ns:
        end = min(start // DAY_NS * DAY_NS + DAY_NS, span.end_ns)
        yield Stretch(start, end, span.symbols)
        start = end


async def _klines(settings: Settings, given: Asked, span: Stretch) -> dict[str, Past]:
    market = one_market(given.symbols)
    _, hosts = market.hosts(settings)
    trust_env = not any(LOOPBACK in host for host in hosts)
    async with httpx.AsyncClient(timeout=httpx.Timeout(10.0), trust_env=trust_env) as http:
        rest = RestClient(hosts, http, time.time_ns, market=market)
        _, answer = await rest.time()
        origin = identity(answer.host, answer.headers, lake_history.LIVE_SESSION)
        return {symbol: await klines(rest, symbol, span, given.interval, origin) for symbol in given.symbols}
