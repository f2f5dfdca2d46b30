"""History: the rolling bars of one symbol, and feature rows from them.

    history = BarHistory("BTCUSDT")
    history.push(bar)
    row = feature_row(bar, history)

State is a pure function of the bars pushed, in order. Whole history, one micro-batch and one row at a time
go through the same formulas (`features.compute`) and give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from feature_repo.contracts import HOUR_NS, MINUTE_NS, SECOND_NS, Bar, FeatureRow
from feature_repo.features import (
    DECLARED,
    FEATURE_NAMES,
    FEATURE_SET,
    RETIRED,
    SEQUENCE_FEATURES,
    SEQUENCE_LENGTH,
    compute,
    reasons,
)
from feature_repo.grid import Floats, Grid, Ints
from feature_repo.windows import MINUTE_FIELDS, SECOND_FIELDS, SIXTIES, STEPS, Windows, bar_values

SECONDS_READ = 60 * (SIXTIES + 1)
"""Seconds up to a close that its row and its minutes read, and a minute more."""
ROWS = 900
"""Seconds whose rows can be computed at once: what neighbours share is computed once."""
SECONDS_KEPT = SECONDS_READ + ROWS
MINUTES_KEPT = 1441 + SEQUENCE_LENGTH
ROWS_NS = ROWS * SECOND_NS
"""How much younger the newest second bar may be than the one whose row is asked for."""
MIRROR_WINDOWS: Mapping[str, int] = {"1m": 60, "5m": 300, "15m": 900}
RETIRED_NAMES = frozenset(feature.name for feature in RETIRED)
RETIRED_REASON = "retired"
"""Of a retired feature that no served model reads any more."""
_MIRRORED = ("quote_volume", "volume", "bid_quantity_5", "ask_quantity_5")
_SEQUENCE_COLUMNS = [FEATURE_NAMES.index(name) for name in SEQUENCE_FEATURES]


class BarHistory:
    """Second bars of the last half hour and minute bars of the last 25 hours of one symbol.

    For whole history give larger capacities; nothing else changes. Of the retired features only those named are
    computed; the others are null.
    """

    def __init__(
        self, symbol: str, seconds_kept: int = SECONDS_KEPT, minutes_kept: int = MINUTES_KEPT,
        retired: Collection[str] = RETIRED_NAMES,
    ) -> None:
        self.symbol = symbol
        self._unread = RETIRED_NAMES - set(retired)
        self._computed = tuple(f for f in DECLARED if f.name not in self._unread) if self._unread else DECLARED
        self._seconds = Grid(SECOND_FIELDS, SECOND_NS, seconds_kept)
        self._minutes = Grid(MINUTE_FIELDS, MINUTE_NS, minutes_kept)
        # Rows of whole minutes never change while bars only append; a revision empties this.
        self._whole_rows: dict[int, Floats] = {}
        self._whole_sequence: tuple[int, Floats] | None = None
        self._newest_row: tuple[int, Floats] | None = None
        self._of_minute: dict[tuple[int, int], Windows] = {}
        self._asked: tuple[bytes, int, int] | None = None
        self._windows: Windows | None = None

    @property
    def last_close(self) -> int | None:
        """Close of the newest second bar, nanoseconds; null before the first."""
        return self._seconds.last_close

    def push(self, bar: Bar) -> None:
        """Take a bar of 1 or 60 seconds. Closes ascend within an interval; a repeated close overwrites.

        Raises `ValueError` for another symbol's bar.
        """
        if bar.symbol != self.symbol:
            raise ValueError(f"expected a bar of {self.symbol}, found {bar.symbol}")
        values = bar_values(bar)
        self._newest_row = None
        if bar.interval_s == 60 or bar.close_time <= (self.last_close or 0):
            self._whole_rows.clear()
            self._whole_sequence = None
        if bar.interval_s == 60:
            self._minutes.put(bar.close_time, [values[name] for name in MINUTE_FIELDS])
            return
        before = self.last_close
        self._seconds.put(bar.close_time, [values[name] for name in SECOND_FIELDS])
        self._close_minutes(before, bar.close_time)

    def _close_minutes(self, before: int | None, close_ns: int) -> None:
        """Build the clock minutes that ended in (before, close]; one with too few seconds is left as it is."""
        start = max(before if before is not None else close_ns - SECOND_NS, close_ns - SECONDS_READ * SECOND_NS)
        for end in range((start // MINUTE_NS + 1) * MINUTE_NS, close_ns + 1, MINUTE_NS):
            windows = self.windows(np.array([end], dtype=np.int64))
            minute = [float(windows.last_sixty_seconds(name)[0]) for name in MINUTE_FIELDS]
            if not math.isnan(minute[MINUTE_FIELDS.index("close")]):
                self._minutes.put(end, minute)

    def load_minutes(self, closes_ns: Ints, columns: Mapping[str, Floats]) -> None:
        """Bulk form of `push` for minute bars.

        Columns: open, high, low, close, volume, quote_volume, taker_buy_volume, each of shape (N,).
        """
        logs = {
            f"log_{name}": np.array([math.log(x) for x in columns[name].tolist()]) for name in ("high", "low", "close")
        }
        self._minutes.put_many(closes_ns, {**columns, **logs})

    def table(self, closes_ns: Ints) -> Floats:
        """Every feature at many closes: shape (N, len(FEATURE_NAMES)), NaN for null."""
        if not closes_ns.size:
            return np.empty((0, len(FEATURE_NAMES)))
        return np.concatenate([self._compute(self.windows(batch)) for batch in _batches(closes_ns)])

    def row(self, close_ns: int) -> tuple[dict[str, float | None], dict[str, str]]:
        """Values by name (null where unknown) and the reason of each null, at one close."""
        return next(self.rows(np.array([close_ns], dtype=np.int64)))

    def rows(self, closes_ns: Ints) -> Iterator[tuple[dict[str, float | None], dict[str, str]]]:
        """`row` at each of some closes, ascending."""
        for _, table, reasons_of in self.blocks(closes_ns):
            for known, why in zip(table.tolist(), reasons_of, strict=True):
                yield {n: None if math.isnan(x) else x for n, x in zip(FEATURE_NAMES, known, strict=True)}, why

    def blocks(self, closes_ns: Ints) -> Iterator[tuple[Ints, Floats, list[dict[str, str]]]]:
        """`rows` in blocks of closes: those, values (B, len(FEATURE_NAMES)), NaN for null, and why, row by row."""
        for batch in _batches(closes_ns):
            windows = self.windows(batch)
            table = self._compute(windows)
            self._newest_row = (int(batch[-1]), table[-1])
            yield batch, table, self._reasons(windows, np.isnan(table))

    def _reasons(self, windows: Windows, nulls: npt.NDArray[np.bool_]) -> list[dict[str, str]]:
        """Name → why, of each row's nulls."""
        found: list[dict[str, str]] = [{} for _ in nulls]
        columns, rows = np.nonzero(nulls.T)
        starts = np.flatnonzero(np.diff(columns, prepend=-1))
        for column, at in zip(columns[starts].tolist(), np.split(rows, starts[1:]), strict=False):
            feature = DECLARED[column]
            unread = feature.name in self._unread
            why = [RETIRED_REASON] * at.size if unread else reasons(feature, windows, at)
            for row, text in zip(at.tolist(), why, strict=True):
                found[row][feature.name] = text
        return found

    def _compute(self, windows: Windows) -> Floats:
        """(B, len(FEATURE_NAMES))."""
        known = compute(windows, self._computed)
        if not self._unread:
            return known
        table = np.full((len(known), len(DECLARED)), np.nan)
        table[:, [FEATURE_NAMES.index(feature.name) for feature in self._computed]] = known
        return table

    def windows(self, closes_ns: Ints) -> Windows:
        """What is known at each of some closes; asked again before anything changed, it is what was read already."""
        asked = (closes_ns.tobytes(), self._seconds.changes, self._minutes.changes)
        if self._windows is None or self._asked != asked:
            self._asked, self._windows = asked, Windows(closes_ns, self._seconds, self._minutes, self._of_minute)
        return self._windows

    def sequence(self, close_ns: int) -> Floats:
        """The models' input at a close: shape (64, len(SEQUENCE_FEATURES)), oldest first, NaN = masked.

        The last 63 whole minutes before the close, then the row at the close itself.
        """
        last_whole = (close_ns - 1) // MINUTE_NS * MINUTE_NS
        if self._whole_sequence is None or self._whole_sequence[0] != last_whole:
            self._whole_sequence = last_whole, self._whole_minutes(last_whole)
        if self._newest_row is None or self._newest_row[0] != close_ns:
            self.row(close_ns)
        assert self._newest_row is not None
        return np.concatenate([self._whole_sequence[1], self._newest_row[1][None, _SEQUENCE_COLUMNS]])

    def _whole_minutes(self, last: int) -> Floats:
        """A sequence but for its newest row: shape (63, len(SEQUENCE_FEATURES))."""
        whole = range(last - (SEQUENCE_LENGTH - 2) * MINUTE_NS, last + 1, MINUTE_NS)
        missing = [close for close in whole if close not in self._whole_rows]
        for close, values in zip(missing, self.table(np.array(missing, dtype=np.int64)), strict=True):
            self._whole_rows[close] = values
        self._whole_rows = {close: self._whole_rows[close] for close in whole}
        return np.stack([*self._whole_rows.values()])[:, _SEQUENCE_COLUMNS]

    def mirrors(self, row: FeatureRow) -> dict[str, dict[str, float | None]]:
        """VWAP, realised volatility and mean top-5 imbalance over 1, 5 and 15 minutes, for the mirror keys."""
        windows = self.windows(np.array([row.ts_event], dtype=np.int64))
        longest = max(MIRROR_WINDOWS.values())
        quote, volume, bid, ask = (windows.second(name, longest)[0] for name in _MIRRORED)
        traded, booked = ~np.isnan(volume), ~np.isnan(bid + ask) & (bid + ask > 0)
        with np.errstate(invalid="ignore"):
            imbalance = (bid - ask) / (bid + ask)
        steps = np.rint(np.stack([quote, volume]) * STEPS)
        return {
            label: {
                "vwap": _vwap(steps[:, -seconds:], traded[-seconds:]),
                "volatility": row.values[f"realized_vol_{label}"],
                "imbalance": _mean_imbalance(imbalance[-seconds:], booked[-seconds:]),
            }
            for label, seconds in MIRROR_WINDOWS.items()
        }

    def second_chunk(self, minute_ns: int) -> bytes:
        """The second bars that close in (minute, minute + 60 s]."""
        return self._seconds.chunk(minute_ns, 60)

    def load_second_chunk(self, minute_ns: int, chunk: bytes) -> None:
        self._seconds.load_chunk(minute_ns, chunk, "close")

    def minute_chunk(self, hour_ns: int) -> bytes:
        """The minute bars that close in (hour, hour + 1 h]."""
        return self._minutes.chunk(hour_ns, HOUR_NS // MINUTE_NS)

    def load_minute_chunk(self, hour_ns: int, chunk: bytes) -> None:
        self._minutes.load_chunk(hour_ns, chunk, "close")


def _vwap(steps: Floats, held: npt.NDArray[np.bool_]) -> float | None:
    """Of quote volume and volume in steps, (2, N)."""
    if not _is_enough(held):
        return None
    quote, volume = (each[held].sum() for each in steps)
    return float(quote / volume) if volume > 0 else None


def _mean_imbalance(imbalance: Floats, held: npt.NDArray[np.bool_]) -> float | None:
    return float(imbalance[held].mean()) if _is_enough(held) else None


def _is_enough(held: npt.NDArray[np.bool_]) -> bool:
    return bool(np.count_nonzero(held) / held.size >= 0.95)


def feature_row(bar: Bar, history: BarHistory) -> FeatureRow:
    """The feature row at a bar's close; the bar has been pushed."""
    return feature_rows([bar], history)[0]


def feature_rows(bars: Sequence[Bar], history: BarHistory) -> list[FeatureRow]:
    """The feature rows at the closes of bars, ascending, all pushed; together they cost a fraction of one at a time.

    A second bar's row reads the 16 minutes before it: bars pushed since must not have taken their place (`ROWS_NS`).
    """
    known = history.rows(np.array([bar.close_time for bar in bars], dtype=np.int64))
    return [
        FeatureRow(
            symbol=bar.symbol, ts_event=bar.close_time, ts_init=bar.ts_init, source=bar.source, session=bar.session,
            created=bar.created, provenance=bar.provenance, feature_set=FEATURE_SET, price=bar.close,
            values=values, reasons=reasons,
        )
        for bar, (values, reasons) in zip(bars, known, strict=True)
    ]


def _batches(closes_ns: Ints) -> list[Ints]:
    return np.split(closes_ns, range(ROWS, closes_ns.size, ROWS))
