import { describe, expect, test } from "vitest";
import { EMPTY, fold, TRAIL_LENGTH, type LiveState } from "@/lib/live/state";
import { bar, book, prediction, snapshot, status } from "./made";

const started = fold(EMPTY, snapshot(), 1_000);

describe("sequences", () => {
  test("a repeated or older message changes nothing", () => {
    expect(fold(started, { type: "bar", sequence: 10, data: bar(3) }, 1_100)).toBe(started);
    expect(fold(started, { type: "bar", sequence: 9, data: bar(3) }, 1_100)).toBe(started);
  });

  test("a jump is taken: the service moved us to the newest", () => {
    const jumped = fold(started, { type: "bar", sequence: 500, data: bar(40) }, 1_100);
    expect(jumped.bar?.close_time).toBe(bar(40).close_time);
    expect(jumped.sequences.bar).toBe(500);
  });

  test("channels are counted apart", () => {
    expect(fold(started, { type: "book", sequence: 21, data: book(3) }, 1_100).sequences).toEqual({ bar: 10, book: 21 });
  });

  test("a new snapshot starts again, whatever was before", () => {
    const far = fold(started, { type: "bar", sequence: 900, data: bar(9) }, 1_100);
    const again = fold(far, snapshot({ sequences: { bar: 3 } }), 2_000);
    expect(again.sequences).toEqual({ bar: 3 });
    expect(fold(again, { type: "bar", sequence: 4, data: bar(5) }, 2_100).bar?.close_time).toBe(bar(5).close_time);
  });
});

describe("price", () => {
  const after = (...closes: number[]): LiveState =>
    closes.reduce((state, close, i) => fold(state, { type: "bar", sequence: 11 + i, data: bar(3 + i, { close }) }, 1_000), started);

  test("the arrow points where the price went", () => {
    expect(after(101).move).toBe(1);
    expect(after(99).move).toBe(-1);
  });

  test("an unchanged price keeps the arrow", () => {
    expect(after(101, 101).move).toBe(1);
  });

  test("an older second never replaces a newer one", () => {
    const revised = fold(after(101), { type: "bar", sequence: 99, data: bar(1, { close: 5 }) }, 1_000);
    expect(revised.bar?.close).toBe(101);
  });

  test("minute bars are not seconds", () => {
    expect(fold(started, { type: "bar", sequence: 11, data: bar(60, { interval_s: 60 }) }, 1_000).bar).toBe(started.bar);
  });
});

describe("what proves that the market moves", () => {
  const seen = (state: LiveState) => state.marketSeenAt;

  test("a second with trades does", () => {
    expect(seen(fold(started, { type: "bar", sequence: 11, data: bar(3) }, 5_000))).toBe(5_000);
  });

  test("a sealed second without trades does not", () => {
    expect(seen(fold(started, { type: "bar", sequence: 11, data: bar(3, { trades: 0 }) }, 5_000))).toBe(1_000);
  });

  test("a book that advanced does, the same book again does not", () => {
    const advanced = fold(started, { type: "book", sequence: 21, data: book(3) }, 5_000);
    expect(seen(advanced)).toBe(5_000);
    expect(seen(fold(advanced, { type: "book", sequence: 22, data: book(3) }, 6_000))).toBe(5_000);
  });

  test("a status does not", () => {
    expect(seen(fold(started, { type: "status", sequence: 1, data: status(3) }, 5_000))).toBe(1_000);
  });
});

test("the trail of predictions is bounded", () => {
  const many = Array.from({ length: TRAIL_LENGTH + 5 }, (_, i) => i);
  const state = many.reduce((s, i) => fold(s, { type: "prediction", sequence: i, data: prediction(i) }, 0), started);
  expect(state.trail).toHaveLength(TRAIL_LENGTH);
  expect(state.trail.at(-1)?.ts).toBe(prediction(TRAIL_LENGTH + 4).ts_event);
});
