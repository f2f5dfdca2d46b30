"""Kill: processes of a whole stack killed -9 at random while a market plays; then lake and Redis are judged.

    candlewick chaos kill --kills 20 --minutes 30 --seed 1 --json

The market is the local exchange in its own time from an anchor, so that what plays depends on seed and recording alone
and a second, undisturbed run meets the same seconds. Each service is killed in turn in a random order, at a random
moment of its part of the time. It has recovered when every service answers and Redis again holds a row younger than
`FRESH_S` by the venue's clock; nobody does anything for that but the stack's own supervisor.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import structlog

from feature_repo.contracts import NANOS
from feature_repo.lake_layout import Zone
from feature_repo.lake_reader import Lake
from feature_repo.settings import LOOPBACK
from infra.drill.remains import Remains, clean, differences, equal, judge, read
from infra.drill.stack import Drill, own_stack, until
from infra.stack.venue import Source

WHOLE = (
    "redis", "kafka", "topics", "exchange", "ingest", "streaming", "publisher", "service", "page-build", "frontend",
    "monitoring",
)
RECOVERY_BAR_S = 60.0
GIVE_UP_S = 180.0
FRESH_S = 5.0
START_S = 300.0
LAKE_S, READS, QUIET_S = 120.0, 10, 4.0
log = structlog.get_logger()


@dataclass(frozen=True)
class Kill:
    """One kill. `recovery_s` null: not within `GIVE_UP_S`."""

    service: str
    after_s: float
    processes: int
    recovery_s: float | None


@dataclass(frozen=True)
class Played:
    """One run of the stack: what was killed, and what it left of each symbol."""

    kills: tuple[Kill, ...]
    remains: dict[str, Remains]


def run(kills: int, minutes: float, seed: int, source: Source, undisturbed: bool = True) -> dict[str, Any]:
    """Play disturbed, then undisturbed for as long, and compare."""
    ours = play(moments(kills, minutes * 60, seed), minutes * 60, source)
    slowest_s = max((kill.recovery_s or GIVE_UP_S for kill in ours.kills), default=0.0)
    found: dict[str, Any] = {
        "minutes": minutes, "seed": seed, "source": source, "kills": [asdict(kill) for kill in ours.kills],
        "recovery_bar_s": RECOVERY_BAR_S, "slowest_recovery_s": round(slowest_s, 1), "judged": _judged(ours),
    }
    faultless = [clean(judged) for judged in found["judged"].values()]
    if undisturbed:
        theirs = play(lambda _names: iter(()), minutes * 60, source)
        beside = {name: differences(ours.remains[name], theirs.remains[name]) for name in ours.remains}
        found |= {"undisturbed": _judged(theirs), "beside_undisturbed": beside}
        faultless += [clean(judged) for judged in found["undisturbed"].values()]
        faultless += [equal(each) for each in beside.values()]
    return found | {"passed": slowest_s <= RECOVERY_BAR_S and bool(faultless) and all(faultless)}


def _judged(played: Played) -> dict[str, Any]:
    return {name: judge(remains) for name, remains in played.remains.items()}


Moments = Callable[[Sequence[str]], Iterator[tuple[float, str]]]


def moments(kills: int, seconds: float, seed: int) -> Moments:
    """When to kill what, seconds from the beginning: every service in turn, in a random order, at random moments.

    >>> [name for _, name in moments(4, 40, seed=1)(["a", "b"])]
    ['b', 'a', 'a', 'b']
    """
    def plan(names: Sequence[str]) -> Iterator[tuple[float, str]]:
        dice, bag = random.Random(seed), list[str]()
        for number in range(kills):
            bag = bag or dice.sample(sorted(names), len(names))
            # The last part of each slot is left for the recovery.
            yield (number + 0.6 * dice.random()) * seconds / kills, bag.pop()

    return plan


def play(plan: Moments, seconds: float, source: Source, names: Sequence[str] = WHOLE) -> Played:
    """Run a stack for some seconds of market, kill by plan, and read what it left."""
    def arguments(name: str) -> Sequence[str]:
        return ("--original-time",) if name == "exchange" else ()

    with own_stack(names, source, time.time_ns(), arguments) as drill:
        drill.await_ready(START_S)
        until(lambda: is_fresh(drill), START_S, "a fresh row in Redis")
        first = drill.newest()
        targets = [unit.service.name for unit in drill.supervisor.units.values() if not unit.service.once]
        done = tuple(strike(drill, plan(targets), seconds))
        remains = read_out(drill, first)
    return Played(done, remains)


def strike(drill: Drill, planned: Iterator[tuple[float, str]], seconds: float) -> Iterator[Kill]:
    """Kill by plan and wait for each recovery; ends after `seconds`."""
    began = time.monotonic()
    for at, name in planned:
        time.sleep(max(0.0, began + at - time.monotonic()))
        yield kill(drill, name, time.monotonic() - began)
    time.sleep(max(0.0, began + seconds - time.monotonic()))


def kill(drill: Drill, name: str, after_s: float = 0.0) -> Kill:
    """Kill one service and wait until the stack has recovered."""
    before, starts = drill.newest(), drill.starts(name)
    count = drill.kill(name)
    log.info("killed", service=name, processes=count)

    def recovered() -> bool:
        return drill.starts(name) > starts and drill.ready() and drill.newest() > before and is_fresh(drill)

    try:
        taken_s: float | None = round(until(recovered, GIVE_UP_S, f"recovery from the kill of {name}"), 1)
    except TimeoutError:
        taken_s = None
        log.error("not recovered", service=name, complaints=drill.complaints())
    log.info("recovered", service=name, seconds=taken_s)
    return Kill(name, round(after_s, 1), count, taken_s)


def is_fresh(drill: Drill) -> bool:
    """Whether Redis holds a row younger than `FRESH_S` by the venue's clock; false while either is away."""
    try:
        health = httpx.get(f"http://{LOOPBACK}:{drill.settings.ports.exchange}/healthz", timeout=2, trust_env=False)
        venue_ns = int(health.json()["venue_ns"])
    except (httpx.HTTPError, ValueError, KeyError):
        return False
    return venue_ns - drill.newest() < FRESH_S * NANOS


def read_out(drill: Drill, first: int) -> dict[str, Remains]:
    """Freeze ingest, so that the market ends for this stack; wait until the lake holds all of it, and read."""
    last = _frozen(drill)
    found = {symbol: _read_whole(drill, symbol, first, last) for symbol in drill.settings.symbols}
    drill.signal("ingest", signal.SIGCONT)
    return found


def _read_whole(drill: Drill, symbol: str, first: int, last: int) -> Remains:
    lake = Lake.open(drill.settings.lake, drill.settings.s3_endpoint)
    zones: tuple[Zone, ...] = ("clean", "features")
    until(lambda: all(lake.rows(zone, [symbol], last, last, ["ts_event"]).num_rows for zone in zones), LAKE_S,
          f"the lake holds {symbol}'s second of {last}", every_s=1.0)
    # The raw zone is written by the same batch, perhaps after the others.
    remains = read(drill.settings, symbol, first, last)
    for _ in range(READS):
        if remains.online is not None and remains.online.row.ts_event in remains.again.closes:
            break
        time.sleep(2.0)
        remains = read(drill.settings, symbol, first, last)
    return remains


def _frozen(drill: Drill) -> int:
    """Freeze ingest and wait until nothing has come for a while. Returns the last close that every symbol has."""
    drill.signal("ingest", signal.SIGSTOP)
    last, since = drill.newest(), time.monotonic()
    while time.monotonic() - since < QUIET_S:
        time.sleep(0.2)
        if drill.newest() != last:
            last, since = drill.newest(), time.monotonic()
    return last
