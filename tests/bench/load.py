"""Bench: many symbols at once, and a burst, through the running stream: how fresh, how much memory, nothing dropped.

    candlewick bench load --symbols 50 --rate 20 --seconds 600 --json     # own broker, Redis and Spark, on free ports

A made market is written to Kafka in real time as ingest would write it. Freshness is from a second's close to the
moment its row can be read from Redis; the seal alone is a quarter of a second of it. After the steady part comes a
burst over all symbols together, and the time until every symbol's newest row is young again. Each part has an end of
its own: what is not fresh by then is in the verdict, which names every bar that was missed.
"""

from __future__ import annotations

import os
import time
from typing import Any

from feature_repo.progress import Say, seldom, silent
from feature_repo.store import FeatureStore
from infra.drill.load import Load, symbols
from infra.drill.measures import batches, spent
from infra.drill.stack import Drill, own_stack, until, within
from infra.drill.watch import Watch, bars_of, quantiles

P99_BAR_MS, LAG_BACK_BAR_S, YOUNG_S = 3_000.0, 30.0, 3.0
BEHIND_BAR_S = 1.0
"""Written later than this, the load was not the one asked for."""
PARTS = ("redis", "kafka", "topics", "streaming")
START_S, WARM_S, BURST_S, BACK_S, DRAIN_S = 240.0, 60.0, 120.0, 90.0, 90.0
LOOK_EVERY_S = 5.0
Span = tuple[int, int]
"""Two times, ns."""


def run(
    count: int = 50, rate: int = 20, seconds: float = 600.0, burst: int = 20_000, burst_s: float = 10.0,
    say: Say = silent,
) -> dict[str, Any]:
    """Measure. `burst` is in trades a second over all symbols together; 0 leaves it out."""
    names, before = symbols(count), os.getloadavg()[0]
    say(f"starting a broker, Redis and the stream for {count} symbols")
    with own_stack(PARTS, symbols=names) as drill:
        drill.await_ready(START_S)
        load, watch = Load(drill.settings.kafka, names, rate), Watch(FeatureStore.open(drill.settings).versions, names)
        load.start()
        watch.start()
        try:
            until(lambda: all(watch.newest().values()), START_S, "every symbol has a row")
            warm_s = within(lambda: watch.lag_s() < YOUNG_S, WARM_S)
            say("every symbol has a row" + ("" if warm_s is not None else f", none yet younger than {YOUNG_S:g} s"))
            steady, found = steady_part(drill, load, watch, seconds, say)
            if burst:
                rush, found["burst"] = burst_part(drill, load, watch, burst // count, burst_s, say)
        finally:
            load.stop()
        drained_s = within(lambda: min(watch.newest().values()) >= load.last_close, DRAIN_S)
        watch.stop()
        # Only now has every second been seen that ever was.
        found["close_to_redis_ms"] = freshness(watch, steady)
        if burst:
            found["burst"]["close_to_redis_ms"] = freshness(watch, rush)
        say("counting what came out")
        bars, trades = bars_of(drill.settings.kafka)
    found |= {
        "symbols": count, "rate": rate, "seconds": seconds, "trades_sent": load.sent.total(),
        "drained_s": rounded(drained_s),
        "bars_missing": (load.seals - bars).total(), "trades_missing": (load.sent - trades).total(),
        "cores": os.cpu_count(), "load_before": round(before, 2), "load_after": round(os.getloadavg()[0], 2),
        "bars": {"p99_ms": P99_BAR_MS, "lag_back_s": LAG_BACK_BAR_S},
    }
    return found | {"over": over(found), "passed": not over(found)}


def steady_part(drill: Drill, load: Load, watch: Watch, seconds: float, say: Say) -> tuple[Span, dict[str, Any]]:
    """Freshness and memory at the steady rate."""
    since, deadline, spent_before = time.time_ns(), time.monotonic() + seconds, batches(drill)
    memory, tell = [drill.rss_mb("streaming")], seldom(say)
    while (left_s := deadline - time.monotonic()) > 0 and load.error is None:
        time.sleep(min(LOOK_EVERY_S, left_s))
        memory.append(drill.rss_mb("streaming"))
        tell(f"steady: {seconds - max(0.0, left_s - LOOK_EVERY_S):.0f} of {seconds:.0f} s, oldest newest row"
             f" {watch.lag_s():.1f} s, written {load.behind_s:.1f} s late at most, stream {memory[-1]:.0f} MB")
    return (since, load.last_close), {
        "written_behind_s": round(load.behind_s, 2), "stream": spent(spent_before, batches(drill)),
        "memory_mb": {"first": round(memory[0]), "last": round(memory[-1]), "max": round(max(memory))},
    }


def burst_part(
    drill: Drill, load: Load, watch: Watch, rate: int, seconds: float, say: Say,
) -> tuple[Span, dict[str, Any]]:
    """A burst; how old rows were at its end, and when they were young again after it."""
    spent_before = batches(drill)
    say(f"burst: making {rate * len(load.symbols) * round(seconds)} trades, then writing them in {round(seconds)} s")
    written = load.burst(rate, round(seconds), BURST_S)
    lag_s = watch.lag_s()
    say(f"burst: written {written.behind_s:.1f} s late at most, oldest newest row {lag_s:.1f} s")
    back_s = within(lambda: watch.lag_s() < YOUNG_S, BACK_S)
    return (written.opened, written.closed), {
        "trades_per_s_asked": rate * len(load.symbols), "trades_per_s_written": round(written.per_s),
        "trades": written.trades, "written_behind_s": round(written.behind_s, 2),
        "lag_at_its_end_s": round(lag_s, 1), "lag_back_s": rounded(back_s),
        "stream": spent(spent_before, batches(drill)),
    }


def freshness(watch: Watch, span: Span) -> dict[str, float] | None:
    """How old the rows of closes after the first and up to the second of two times were; null when there were none."""
    ages_ms = watch.ages_ms(span[0] + 1, span[1] + 1)
    return quantiles(ages_ms) if len(ages_ms) > 1 else None


def over(found: dict[str, Any]) -> list[str]:
    """Every bar that was missed, with what was found; empty when all are met."""
    burst, fresh = found.get("burst"), found["close_to_redis_ms"]
    missed = []
    if fresh is None or fresh["p99"] > P99_BAR_MS:
        missed.append(f"steady: close to Redis p99 {fresh and fresh['p99']} ms, bar {P99_BAR_MS:.0f}")
    for part, late_s in {"steady": found["written_behind_s"], "burst": burst and burst["written_behind_s"]}.items():
        if late_s and late_s > BEHIND_BAR_S:
            missed.append(f"{part}: written up to {late_s} s late, not the load that was asked for")
    if burst and (burst["lag_back_s"] is None or burst["lag_back_s"] > LAG_BACK_BAR_S):
        missed.append(f"burst: rows young again after {burst['lag_back_s'] or f'more than {BACK_S:.0f}'} s,"
                      f" bar {LAG_BACK_BAR_S:.0f}")
    if found["drained_s"] is None:
        missed.append(f"end: not every second had its row within {DRAIN_S:.0f} s")
    if found["bars_missing"] or found["trades_missing"]:
        missed.append(f"dropped: {found['bars_missing']} bars, {found['trades_missing']} trades")
    return missed


def rounded(seconds: float | None) -> float | None:
    """To tenths; null stays null."""
    return None if seconds is None else round(seconds, 1)
