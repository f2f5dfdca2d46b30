import { expect, test } from "vitest";
import { bucketed, evenly, newestBucket } from "@/features/chart/aggregate";
import type { Candle } from "@/lib/live/series";

const candle = (time: number, open: number, high: number, low: number, close: number, volume = 1): Candle => ({ time, open, high, low, close, volume });

const seconds = [
  candle(100, 10, 12, 9, 11),
  candle(101, 11, 15, 11, 14),
  candle(104, 14, 14, 8, 9),
  candle(105, 9, 10, 9, 10),
];

test("five seconds are one candle: first open, extremes, last close, summed volume", () => {
  expect(bucketed(seconds, 5)).toEqual([candle(100, 10, 15, 8, 9, 3), candle(105, 9, 10, 9, 10, 1)]);
});

test("one-second buckets are the seconds themselves", () => {
  expect(bucketed(seconds, 1)).toEqual(seconds);
});

test("the newest bucket equals the last of all buckets at every step", () => {
  seconds.forEach((_, i) => {
    const part = seconds.slice(0, i + 1);
    expect(newestBucket(part, 5)).toEqual(bucketed(part, 5).at(-1));
  });
});

test("holes become whitespace, never candles", () => {
  expect(evenly(seconds, 1).map((point) => ("open" in point ? "candle" : "space"))).toEqual(["candle", "candle", "space", "space", "candle", "candle"]);
  expect(evenly(seconds, 1).map((point) => point.time)).toEqual([100, 101, 102, 103, 104, 105]);
});

test("nothing in, nothing out", () => {
  expect(evenly([], 1)).toEqual([]);
  expect(newestBucket([], 5)).toBeNull();
});
