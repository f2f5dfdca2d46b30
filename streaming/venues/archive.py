"""Archive: trades of a downloaded file as our messages, in the order they happened, and the time they cover.

    archive = read_archive(Path("BTCUSD2019-10-01.csv.gz"))
    bars = bars_from_trades(archive.trades, *archive.whole)

Which venue wrote a file is told by how its name ends. A row that cannot be a trade is counted, never fatal; a file
that is none of these at all raises `ValueError`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from feature_repo.contracts import Trade


@dataclass(frozen=True)
class Archive:
    """Trades of one symbol, by ascending id, each once."""

    trades: Sequence[Trade]
    whole: tuple[int, int] | None = None
    """[start, end) in ns of which every trade is here; None: as far as the venue's ids are without a gap."""
    refused: Counter[str] = field(default_factory=Counter)
    """Rows left out, by reason."""
    facts: Mapping[str, int] = field(default_factory=dict)
    """What a person should know of this file, by name."""


def is_archive(path: Path) -> bool:
    """Whether a file is a trade archive and not recorded frames."""
    return _reader(path) is not None


def read_archive(path: Path) -> Archive:
    """The trades of one archive. Raises `ValueError` for a file that is none."""
    reader = _reader(path)
    if reader is None:
        raise ValueError(f"{path.name}: expected an archive named *.csv.gz or *.json.gz")
    if not path.is_file():
        raise ValueError(f"an archive expected at {path}, found no such file; check the path")
    return reader(path)


def _reader(path: Path) -> Callable[[Path], Archive] | None:
    from streaming.venues import binance_aggtrades, bybit_archive

    return {".csv.gz": bybit_archive.read, ".json.gz": binance_aggtrades.read}.get("".join(path.suffixes[-2:]))
