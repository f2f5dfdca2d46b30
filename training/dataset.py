"""Dataset: what was known at each decision, what happened after it, and which part of time each row may serve.

    rows  = kernel_rows(read_klines(path))            # or known_rows(…): the same rows through Feast
    table = assemble(rows, Split())
    x_NLF = table.sequences(table.part("train", stride=3))

Rows lie on a dense minute grid in which a long hole is shortened to `SEAM` empty minutes, so that sequences and
labels are plain slices and none reaches across a hole: it meets nulls there. Decision time is a row's `created`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from feature_repo.context import CONTEXT_LAG_NS, hourly_percentiles
from feature_repo.contracts import DAY_NS, MINUTE_NS, Source
from feature_repo.features import FEATURE_NAMES, FEATURE_SET, FORECAST_BAR, SEQUENCE_LENGTH
from feature_repo.grid import Floats, Ints
from training.day_blocks import day_of
from training.klines import MinuteBars, feature_rows
from training.targets import HORIZONS, LABELS, realised_after, targets

Part = Literal["train", "calibration", "test"]
PARTS: tuple[Part, ...] = ("train", "calibration", "test")
SEAM = 128
"""Empty minutes that stand for a longer hole: more than a sequence (64) or a label (60) can span."""
PURGE_NS = max(HORIZONS) * MINUTE_NS
"""A label looks as far ahead as this."""
CUTS = "minutes after the embargo/v2"
"""Names the rule of `Windows.between`; part of the identity of a set."""
CALIBRATION_SHARE = 0.15
"""Of the rows that a test leaves: the last of them stop the fit, choose the seed and calibrate (and teach direction by
recency, every other day)."""
MIN_KNOWN = 0.8
"""A sequence with more than 20 % masked is tier 3 at best: not trained on, not scored."""
RULES: Mapping[str, Any] = {
    "feature_set": FEATURE_SET, "features": FORECAST_BAR, "labels": LABELS, "sequence_length": SEQUENCE_LENGTH,
    "min_known": MIN_KNOWN, "cuts": CUTS,
}
"""What this code makes a set of rows by; part of its identity."""
Singles = NDArray[np.float32]
FORECAST_COLUMNS = [FEATURE_NAMES.index(name) for name in FORECAST_BAR]


@dataclass(frozen=True)
class Split:
    """A chronological split by share of rows, cut at midnight UTC."""

    train: float = 0.70
    """Share of rows, oldest first, that weights are fitted on."""
    calibration: float = 0.19
    """The next share: early stopping, choice of seed, calibration. The rest is the test."""
    embargo_ns: int = DAY_NS
    """Left out after each cut: the longest feature window is a day. Labels that cross a cut are purged."""

    @classmethod
    def testing(cls, share: float) -> Split:
        """The newest `share` of the rows is the test; the last `CALIBRATION_SHARE` of the rest calibrates.

        Raises `ValueError` for a share that leaves no test or more test than anything else.

        >>> Split.testing(0.2)
        Split(train=0.68, calibration=0.12, embargo_ns=86400000000000)
        """
        if not 0 < share <= 0.5:
            raise ValueError(f"expected a test share above 0 and up to 0.5, found {share:g}")
        rest = 1 - share
        return cls(round(rest * (1 - CALIBRATION_SHARE), 9), round(rest * CALIBRATION_SHARE, 9))

    def windows(self, close_ns: Ints) -> Windows:
        """The parts of rows with these closes, ascending. Raises `ValueError` when they are too few for three."""
        n = len(close_ns)
        shares = (self.train, self.train + self.calibration)
        cuts = [int(close_ns[int(share * n)] // DAY_NS * DAY_NS) for share in shares]
        edges = (int(close_ns[0]), *cuts, int(close_ns[-1]) + PURGE_NS)
        found = Windows.between(edges, self.embargo_ns)
        if None in found.spans():
            raise ValueError(f"expected three parts with midnights between them, found {n} rows; give more days")
        return found


Span = tuple[int, int]
"""First and last close of a decision, both included, ns."""


@dataclass(frozen=True)
class Windows:
    """Parts by time, None where there is none on purpose. Whoever makes one keeps labels from crossing a cut."""

    train: Span | None = None
    calibration: Span | None = None
    test: Span | None = None

    @classmethod
    def between(cls, edges: Sequence[int], embargo_ns: int = DAY_NS) -> Windows:
        """Parts between four ascending times, purged of labels that cross the next one, with an embargo after each.

        The minute that closes when an embargo ends lies in it. Two equal edges leave out the part between them; there
        is no embargo after a part that is not there.

        >>> found = Windows.between((0, 10 * DAY_NS, 12 * DAY_NS, 12 * DAY_NS))
        >>> found.calibration == (11 * DAY_NS + MINUTE_NS, 12 * DAY_NS - PURGE_NS), found.test
        (True, None)
        """
        spans: list[Span | None] = []
        for i, (first, end) in enumerate(pairwise(edges)):
            behind = i > 0 and spans[i - 1] is not None
            begin = first + (embargo_ns + MINUTE_NS if behind else 0)
            spans.append((begin, end - PURGE_NS) if end > first else None)
        return cls(*spans)

    def windows(self, _close_ns: Ints) -> Windows:
        """Itself: it does not depend on how many rows there are."""
        return self

    def spans(self) -> tuple[Span | None, ...]:
        """In the order of `PARTS`."""
        return (self.train, self.calibration, self.test)


@dataclass(frozen=True)
class KnownRows:
    """Feature rows as known at their decision time, one a minute that exists, ascending by symbol and close."""

    symbol: str
    """Of several symbols: their names joined by +."""
    source: Source
    close_ns: Ints
    opens: Floats
    closes: Floats
    values: Singles
    """(N, F) in FORECAST_BAR order, NaN for null."""
    context: Floats
    """`realized_vol_15m_p90_30d` as known at each decision, NaN unknown."""
    content: str
    """SHA-256 of what the rows were read from."""
    lengths: tuple[tuple[str, int], ...] = ()
    """Rows of each symbol, in order; () where there is one symbol."""

    @property
    def symbol_N(self) -> NDArray[np.str_]:  # noqa: N802 - an array's name ends in its shape
        """Each row's symbol."""
        lengths = self.lengths or ((self.symbol, len(self.close_ns)),)
        return np.repeat([name for name, _ in lengths], [n for _, n in lengths])


def pooled(rows: Sequence[KnownRows]) -> KnownRows:
    """Rows of several symbols as one: they share the parts' times, and no window or label reaches across them."""
    if len(rows) == 1:
        return rows[0]
    if len({each.source for each in rows}) != 1:
        raise ValueError(f"expected rows of one source, found {sorted({each.source for each in rows})}")
    content = hashlib.sha256("".join(each.content for each in rows).encode()).hexdigest()
    joined = {name: np.concatenate([getattr(each, name) for each in rows])
              for name in ("close_ns", "opens", "closes", "values", "context")}
    lengths = tuple((each.symbol, len(each.close_ns)) for each in rows)
    return KnownRows("+".join(name for name, _ in lengths), rows[0].source, content=content, lengths=lengths, **joined)


@dataclass(frozen=True)
class TrainingSet:
    """Dense rows, targets and split. M dense minutes."""

    rows: KnownRows
    close_ns: Ints
    """(M,), −1 where there is no row."""
    values_MF: Singles
    context: Singles
    closes: Floats
    targets: dict[str, Floats]
    parts: NDArray[np.int8]
    """0 train, 1 calibration, 2 test, −1 none (embargo, purged, hole, masked)."""
    identity: str
    counts: dict[str, int]
    windows: Windows
    place: Ints
    """(N,): where on the grid each known row lies."""
    split: Split | Windows
    """What the parts were made by."""

    @property
    def symbol_M(self) -> NDArray[np.str_]:  # noqa: N802 - an array's name ends in its shape
        """Each minute's symbol; empty where there is no row."""
        dense = np.full(len(self.close_ns), "", dtype=self.rows.symbol_N.dtype)
        dense[self.place] = self.rows.symbol_N
        return dense

    def part(self, name: Part, stride: int = 1, offset: int = 0) -> Ints:
        """Dense positions of a part's rows, every `stride`-th minute of the clock."""
        wanted = PARTS.index(name)
        at = np.flatnonzero(self.parts == wanted)
        return np.asarray(at[(self.close_ns[at] // MINUTE_NS) % stride == offset % stride])

    def stopping(self, stride: int = 1) -> Ints:
        """Rows that stop a fit: of the calibration part every other day, from its first. Of one day alone, all.

        They teach `recent_direction`, too, and nothing else.
        """
        return self._every_other_day(0, stride)

    def weighing(self, stride: int = 1) -> Ints:
        """The calibration part's other days, which have neither taught nor stopped any member of a stack: they weigh
        the members, and direction that has learnt from the days between is calibrated on them."""
        return self._every_other_day(1, stride)

    def _every_other_day(self, which: int, stride: int) -> Ints:
        at = self.part("calibration")
        # As they follow: a hole may swallow every other one. Before thinning, which may leave nothing of a day.
        days = np.unique(self.days(at), return_inverse=True)[1]
        at = at if days.max() == 0 else at[days % 2 == which]
        return np.asarray(at[(self.close_ns[at] // MINUTE_NS) % stride == 0])

    def sequences(self, at: Ints) -> Singles:
        """The model's input at positions (N,): (N, 64, F), oldest first, NaN = masked."""
        return np.asarray(self.values_MF[at[:, None] + np.arange(1 - SEQUENCE_LENGTH, 1)])

    def newest(self, at: Ints) -> Singles:
        """The newest row only: (N, F)."""
        return np.asarray(self.values_MF[at])

    def days(self, at: Ints) -> Ints:
        """UTC day number of each row's minute, for day blocks."""
        return day_of(self.close_ns[at])

    def window(self, name: Part) -> tuple[int, int]:
        """First and last decision close of a part, ns."""
        close_ns = self.close_ns[self.part(name)]
        return int(close_ns.min()), int(close_ns.max())


def kernel_rows(bars: MinuteBars) -> KnownRows:
    """Rows straight from the kernel: what the lake holds, without the lake."""
    values = feature_rows(bars)[:, FORECAST_COLUMNS].astype(np.float32)
    content = hashlib.sha256(bars.close_ns.tobytes())
    for name in sorted(bars.columns):
        content.update(bars.columns[name].tobytes())
    return KnownRows(
        bars.symbol, bars.source, bars.close_ns, bars.columns["open"], bars.closes, values, context_as_known(bars),
        content.hexdigest(),
    )


def context_as_known(bars: MinuteBars) -> Floats:
    """The hourly percentile in force at each row's decision time."""
    hours, values = hourly_percentiles(bars.close_ns, bars.closes)
    place = np.searchsorted(hours + CONTEXT_LAG_NS, bars.created_ns, side="right") - 1
    return np.where(place >= 0, values[np.maximum(place, 0)], np.nan)


def assemble(
    rows: KnownRows, split: Split | Windows | None = None, absent: Collection[str] = (),
) -> TrainingSet:
    """Dense grid, targets, split and identity of a set. Raises `ValueError` when a part of it has no row.

    `absent` are inputs that the bars cannot have, whatever their history: of what is masked they are no part.
    """
    split = split or Split()
    windows = split.windows(np.sort(rows.close_ns))
    place = dense_places(rows.close_ns, tuple(count for _, count in rows.lengths))
    size = int(place[-1]) + 1
    close_ns = np.full(size, -1, dtype=np.int64)
    close_ns[place] = rows.close_ns
    closes, context = _dense(place, size, rows.closes), _dense(place, size, rows.context)
    values = np.full((size, rows.values.shape[1]), np.nan, dtype=np.float32)
    values[place] = rows.values
    outcomes = targets(closes, _dense(place, size, rows.opens), context)
    parts, counts = _parts(rows, place, windows, _usable(values, closes, absent), _labelled(outcomes))
    for name, label in outcomes.items():
        counts[f"null_{name}"] = int(np.isnan(label[place]).sum())
    identity = _identity(rows, split, absent)
    return TrainingSet(
        rows, close_ns, values, context.astype(np.float32), closes, outcomes, parts, identity, counts,
        windows, place, split,
    )


def dense_places(close_ns: Ints, lengths: Sequence[int] = ()) -> Ints:
    """Position of each row on the dense grid; the first is far enough in for a whole sequence.

    `lengths`: how many rows each symbol has, one behind the other; no sequence and no label reaches into the next.
    """
    minutes = np.diff(close_ns) // MINUTE_NS
    steps = np.where(minutes > 0, np.minimum(minutes, SEAM), SEAM)
    steps[np.cumsum(lengths, dtype=np.int64)[:-1] - 1] = SEAM
    return SEQUENCE_LENGTH + np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)


def _dense(place: Ints, size: int, column: Floats) -> Floats:
    dense = np.full(size, np.nan)
    dense[place] = column
    return dense


def _usable(values: Singles, closes: Floats, absent: Collection[str] = ()) -> NDArray[np.bool_]:
    """Rows whose sequence is known enough and that every minute follows which a target looks at."""
    known = np.isfinite(values)[:, [name not in absent for name in FORECAST_BAR]].mean(axis=1)
    sums = np.cumsum(np.concatenate([[0.0], known]))
    share = np.zeros(len(values))
    share[SEQUENCE_LENGTH - 1:] = (sums[SEQUENCE_LENGTH:] - sums[:-SEQUENCE_LENGTH]) / SEQUENCE_LENGTH
    followed = np.isfinite(realised_after(closes, max(HORIZONS)))
    newest = np.isfinite(values[:, FORECAST_BAR.index("realized_vol_60m")])
    return np.asarray((share >= MIN_KNOWN) & followed & newest)


def _labelled(outcomes: dict[str, Floats]) -> NDArray[np.bool_]:
    """Rows after which the market moves enough for a volatility at every horizon."""
    return np.asarray(np.logical_and.reduce([np.isfinite(outcomes[f"rv_{h}"]) for h in HORIZONS]))


def _parts(
    rows: KnownRows, place: Ints, windows: Windows, usable: NDArray[np.bool_], labelled: NDArray[np.bool_],
) -> tuple[NDArray[np.int8], dict[str, int]]:
    """The part of each dense minute, and how many there are of each.

    A fit takes the logarithm of every volatility, so its rows have all of them. A test counts what stood still too.
    """
    part = np.full(len(rows.close_ns), -1, dtype=np.int8)
    for i, span in enumerate(windows.spans()):
        if span is not None:
            part[(rows.close_ns >= span[0]) & (rows.close_ns <= span[1])] = i
    dense = np.full(len(usable), -1, dtype=np.int8)
    judged = part == PARTS.index("test")
    dense[place] = np.where(usable[place] & (labelled[place] | judged), part, -1)
    counts: dict[str, int] = {name: int((dense == i).sum()) for i, name in enumerate(PARTS)}
    if wanting := [name for name, span in zip(PARTS, windows.spans(), strict=True) if span and not counts[name]]:
        raise ValueError(
            f"expected rows in every part of the split, found {counts} (none in {', '.join(wanting)}); give more days "
            f"of history: a row is used where {MIN_KNOWN:.0%} of what its {SEQUENCE_LENGTH} minutes say is known and "
            f"each of the {max(HORIZONS)} minutes after it has a bar",
        )
    left_out = {"left_out": len(place) - sum(counts.values()), "embargo_or_purged": int((part < 0).sum())}
    return dense, {**counts, "rows": len(place), **left_out}


def _identity(rows: KnownRows, split: Split | Windows, absent: Collection[str]) -> str:
    """Hash of everything that decides the set's content."""
    facts = {
        "content": rows.content, "symbol": rows.symbol, "source": rows.source, "split": asdict(split), **RULES,
        **({"absent": sorted(absent)} if absent else {}),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
