// Aggregate: seconds to the chart's points. A hole stays a hole: whitespace, never a candle nobody traded.

import type { Candle } from "@/lib/live/series";

/** A point of the chart; without prices it is whitespace that only keeps its place in time. */
export type Point = Candle | { time: number };

export function isCandle(point: Point): point is Candle {
  return "open" in point;
}

export function bucketStart(time: number, interval: number): number {
  return Math.floor(time / interval) * interval;
}

/** Candles of `interval` seconds, ascending; `candles` are ascending and unique. */
export function bucketed(candles: readonly Candle[], interval: number): Candle[] {
  const buckets: Candle[] = [];
  for (const candle of candles) {
    const time = bucketStart(candle.time, interval);
    const last = buckets.at(-1);
    if (last?.time === time) buckets[buckets.length - 1] = joined(last, candle);
    else buckets.push({ ...candle, time });
  }
  return buckets;
}

function joined(bucket: Candle, next: Candle): Candle {
  return {
    time: bucket.time,
    open: bucket.open,
    high: Math.max(bucket.high, next.high),
    low: Math.min(bucket.low, next.low),
    close: next.close,
    volume: bucket.volume + next.volume,
  };
}

/** One point for every interval from the first candle to the last, so that time runs evenly along the chart. */
export function evenly(candles: readonly Candle[], interval: number): Point[] {
  return candles.flatMap((candle, i) => {
    const before = candles[i - 1];
    return before ? [...holesBetween(before.time, candle.time, interval), candle] : [candle];
  });
}

/** The whitespace strictly between two times. */
export function holesBetween(from: number, to: number, interval: number): { time: number }[] {
  const count = Math.max(0, (to - from) / interval - 1);
  return Array.from({ length: count }, (_, i) => ({ time: from + (i + 1) * interval }));
}

/** The candle that holds the newest second, from the tail of the series. */
export function newestBucket(candles: readonly Candle[], interval: number): Candle | null {
  const last = candles.at(-1);
  if (!last) return null;
  const start = bucketStart(last.time, interval);
  const from = candles.findLastIndex((candle) => candle.time < start) + 1;
  return bucketed(candles.slice(from), interval)[0] ?? null;
}
