"""Venue: decide where the market comes from — the venue itself, a recording, or the simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from feature_repo.settings import Settings
from infra.stack import venue_hosts

Source = Literal["live", "recording", "simulated"]
Wanted = Literal["auto", "live", "recording", "simulated"]
ANCHOR_KEPT_NS = 24 * 3600 * 1_000_000_000
RECORDINGS = "ws_raw_binance"


def wanted(word: str) -> Wanted:
    """A word from the command line. Raises `ValueError` for another one.

    >>> wanted("auto")
    'auto'
    """
    if word not in get_args(Wanted):
        raise ValueError(f"source: expected one of {', '.join(get_args(Wanted))}; found {word!r}")
    return cast(Wanted, word)


def choose(settings: Settings, word: Wanted, reach: Callable[[Sequence[str]], str | None] | None = None) -> Source:
    """The source to use. `auto`: the venue when one of its hosts answers, else a recording, else the simulator."""
    if word != "auto":
        return word
    if (reach or reachable)(settings.venue_rest):
        return "live"
    return "recording" if (settings.data_dir / RECORDINGS).is_dir() else "simulated"


def reachable(hosts: Sequence[str], timeout_s: float = venue_hosts.TIMEOUT_S) -> str | None:
    """The first of the REST hosts that tells its time within `timeout_s`, all asked at once; None when none does."""
    return next((answer.host for answer in venue_hosts.ask(hosts, timeout_s) if not answer.problem), None)


def anchor(run_dir: Path, now_ns: int) -> int:
    """When this run folder's exchange began to loop, wall nanoseconds: kept for a day, then begun anew.

    After a day the history before now would be all laps of ten minutes; a new anchor puts the recorded weeks there.
    """
    note = run_dir / "exchange" / "anchor"
    try:
        kept = int(note.read_text())
    except (FileNotFoundError, ValueError):
        kept = now_ns - ANCHOR_KEPT_NS
    if not 0 <= now_ns - kept < ANCHOR_KEPT_NS:
        kept = now_ns
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(str(kept))
    return kept
