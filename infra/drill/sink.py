"""Sink: a store answers slowly for some minutes; memory must not grow, and the lag must go back by itself.

    candlewick chaos sink --delay-ms 500 --minutes 5 --json              # the online store, Redis
    candlewick chaos sink --sink s3 --minutes 5 --json                   # the lake, on S3

A made market in real time, the product's own stream, and a proxy before the store that holds back every request. The
lag is the age of the oldest of the symbols' newest rows in that store, read past the proxy. How old rows are when
nothing is slow is seen first: the lag is back when they are as young again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from feature_repo.contracts import HOUR_NS
from feature_repo.lake_reader import Lake
from feature_repo.progress import Say, seldom, silent
from feature_repo.settings import LOOPBACK, load_settings
from feature_repo.store import FeatureStore
from infra.drill.load import Load, symbols
from infra.drill.measures import batches, spent
from infra.drill.proxy import SlowProxy, slow_proxy
from infra.drill.s3 import LAKE_URL, s3_server
from infra.drill.stack import Drill, own_stack, until, within
from infra.drill.watch import Watch, bars_in_lake, bars_of, lake_versions

PARTS = ("redis", "kafka", "topics", "streaming")
SINKS = ("redis", "s3")
START_S, BACK_S = 240.0, 300.0
QUIET_S = 30.0
"""How long the stream runs undisturbed before."""
SPEED_BAR, GROWTH_BAR = 3.0, 1.15
LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Slow:
    """A running stack, the proxy before its slow store, and what looks into that store past the proxy."""

    drill: Drill
    proxy: SlowProxy
    watch: Watch


def run(
    delay_ms: float, minutes: float, sink: str = "redis", count: int = 10, rate: int = 20, say: Say = silent,
) -> dict[str, Any]:
    """Usual, slow, then quick again, and what came of it. Raises `ValueError` for a sink that is none of `SINKS`."""
    if sink not in SINKS:
        raise ValueError(f"expected one of {', '.join(SINKS)}; found {sink!r}")
    names = symbols(count)
    say(f"starting a broker, Redis and the stream for {count} symbols, a proxy before {sink}")
    with (slow_redis if sink == "redis" else slow_s3)(names) as slow:
        slow.drill.await_ready(START_S)
        load = Load(slow.drill.settings.kafka, names, rate)
        began = time.time_ns()
        load.start()
        slow.watch.start()
        try:
            until(lambda: all(slow.watch.newest().values()), START_S, "every symbol has a row")
            found = slow_part(slow, delay_ms / 1e3, minutes * 60, say)
        finally:
            load.stop()
        drained_s = within(lambda: min(slow.watch.newest().values()) >= load.last_close, BACK_S)
        slow.watch.stop()
        bars, trades = bars_of(slow.drill.settings.kafka) if sink == "redis" else bars_in_lake(
            direct_lake(slow.drill, slow.proxy), names, began - HOUR_NS, time.time_ns())
    found |= {
        "sink": sink, "delay_ms": delay_ms, "minutes": minutes, "symbols": count, "rate": rate,
        "trades_sent": load.sent.total(), "drained_s": drained_s and round(drained_s, 1),
        "bars_missing": (load.seals - bars).total(), "trades_missing": (load.sent - trades).total(),
        "bars": {"speed": SPEED_BAR, "growth": GROWTH_BAR},
    }
    return found | {"over": over(found), "passed": not over(found)}


@contextmanager
def slow_redis(names: Sequence[str]) -> Iterator[Slow]:
    """A stack whose stream reaches Redis through a proxy."""
    with slow_proxy(0) as proxy, own_stack(
        PARTS, symbols=names, redis_url=f"redis://{LOOPBACK}:{proxy.port}/0",
        redis_writer_url=load_settings().writer_at(proxy.port),
    ) as drill:
        proxy.target = drill.settings.ports.redis
        yield Slow(drill, proxy, Watch(FeatureStore.open(replace(drill.settings, redis_url="")).versions, names))


@contextmanager
def slow_s3(names: Sequence[str]) -> Iterator[Slow]:
    """A stack whose lake is on an S3 server behind a proxy."""
    with s3_server() as port, slow_proxy(port) as proxy, own_stack(
        PARTS, symbols=names, lake_url=LAKE_URL, s3_endpoint=f"http://{LOOPBACK}:{proxy.port}",
    ) as drill:
        yield Slow(drill, proxy, Watch(lake_versions(direct_lake(drill, proxy)), names, LOOK_EVERY_S))


def direct_lake(drill: Drill, proxy: SlowProxy) -> Lake:
    """The lake past its proxy."""
    return Lake.open(drill.settings.lake, f"http://{LOOPBACK}:{proxy.target}")


def slow_part(slow: Slow, delay_s: float, seconds: float, say: Say) -> dict[str, Any]:
    """Lag and memory before and while the store is slow, and how quickly the lag goes when it is quick again."""
    lag_s = slow.watch.lag_s
    usual, _ = observe(slow, QUIET_S, say, "usual")
    # Its second half: in the first the stream may still be making up for its start.
    usual_s, spent_before, slow.proxy.delay_s = max(usual[len(usual) // 2 :]), batches(slow.drill), delay_s
    lags, memory = observe(slow, seconds, say, "slow")
    spent_slow, slow.proxy.delay_s = spent(spent_before, batches(slow.drill)), 0.0
    at_end_s = lag_s()
    back_s = within(lambda: lag_s() <= usual_s, BACK_S)
    left_s = lag_s()
    say(f"quick: oldest newest row {at_end_s:.1f} s, {left_s:.1f} s after {back_s or BACK_S:.1f} s")
    third = max(1, len(memory) // 3)
    return {
        "lag_s": {"usual": round(usual_s, 1), "max": round(max(lags), 1), "at_end": round(at_end_s, 1)},
        "lag_back_s": back_s and round(back_s, 1), "speed": speed(usual_s, at_end_s, left_s, back_s),
        "memory_mb": {"first_third": round(statistics.median(memory[:third])),
                      "last_third": round(statistics.median(memory[-third:])), "max": round(max(memory))},
        "held_back": slow.proxy.held_back, "stream": spent_slow,
    }


def observe(slow: Slow, seconds: float, say: Say, what: str) -> tuple[list[float], list[float]]:
    """Lags, s, and the stream's memory, MB, every second for so long."""
    lags, memory, deadline, tell = list[float](), list[float](), time.monotonic() + seconds, seldom(say)
    while not lags or time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
        lags.append(slow.watch.lag_s())
        memory.append(slow.drill.rss_mb("streaming"))
        tell(f"{what}: {seconds - max(0.0, deadline - time.monotonic()):.0f} of {seconds:.0f} s,"
             f" oldest newest row {lags[-1]:.1f} s, stream {memory[-1]:.0f} MB")
    return lags, memory


def speed(usual_s: float, lag_s: float, left_s: float, back_s: float | None) -> float | None:
    """Seconds of the market a second while a lag is made up for; null where there was none to speak of.

    The market goes on meanwhile, so that a lag that goes by 2 s each second is made up for at three times its speed.
    Rows come in steps of about the usual lag: where it has not doubled, the next step alone would be measured.

    >>> speed(usual_s=2.0, lag_s=62.0, left_s=2.0, back_s=20.0)
    4.0
    >>> speed(usual_s=2.0, lag_s=3.5, left_s=1.0, back_s=0.7) is None
    True
    """
    if lag_s <= 2 * usual_s:
        return None
    return round(1 + (lag_s - left_s) / max(back_s or BACK_S, LOOK_EVERY_S), 1)


def over(found: dict[str, Any]) -> list[str]:
    """Every bar that was missed, with what was found; empty when all are met."""
    memory, lag, made = found["memory_mb"], found["lag_s"], found["speed"]
    missed: list[str] = []

    def judge(is_met: bool, what: str) -> None:
        missed.extend([] if is_met else [what])

    judge(found["held_back"] > 0, "slow: no request came that could be held back")
    judge(memory["last_third"] <= GROWTH_BAR * memory["first_third"],
          f"memory: {memory['first_third']} MB, then {memory['last_third']}, bar {GROWTH_BAR} times as much")
    judge(found["lag_back_s"] is not None, f"lag: not back to {lag['usual']} s within {BACK_S:.0f} s")
    judge(made is None or made >= SPEED_BAR, f"lag: made up at {made} times the market's speed, bar {SPEED_BAR}")
    judge(found["drained_s"] is not None, f"end: not every second was there within {BACK_S:.0f} s")
    judge(not (found["bars_missing"] or found["trades_missing"]),
          f"dropped: {found['bars_missing']} bars, {found['trades_missing']} trades")
    return missed


