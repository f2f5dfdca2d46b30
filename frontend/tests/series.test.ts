import { expect, test } from "vitest";
import { MAX_HOLE_S, MarketSeries, type SeriesListener } from "@/lib/live/series";
import { bar, book, T0 } from "./made";

function heard(series: MarketSeries): string[] {
  const calls: string[] = [];
  const listener: SeriesListener = {
    onReset: () => calls.push("reset"),
    onCandle: (candle) => calls.push(`candle ${candle.time - T0}`),
    onBook: () => calls.push("book"),
  };
  series.listen(listener);
  calls.length = 0;
  return calls;
}

const times = (series: MarketSeries) => series.candles.map((candle) => candle.time - T0);

test("bars are labelled by the open of their second, sorted and unique", () => {
  const series = new MarketSeries();
  series.load([bar(3), bar(1), bar(2), bar(2, { close: 7 })], []);
  expect(times(series)).toEqual([0, 1, 2]);
  expect(series.candles[1]?.close).toBe(7);
});

test("the next second is one update, not a redraw", () => {
  const series = new MarketSeries();
  series.load([bar(1)], []);
  const calls = heard(series);
  series.pushBar(bar(2));
  expect(calls).toEqual(["candle 1"]);
});

test("a revision of the newest second replaces it", () => {
  const series = new MarketSeries();
  series.load([bar(1), bar(2)], []);
  series.pushBar(bar(2, { close: 42 }));
  expect(times(series)).toEqual([0, 1]);
  expect(series.candles.at(-1)?.close).toBe(42);
});

test("a late second goes where it belongs and everything is drawn again", () => {
  const series = new MarketSeries();
  series.load([bar(1), bar(3)], []);
  const calls = heard(series);
  series.pushBar(bar(2));
  expect(times(series)).toEqual([0, 1, 2]);
  expect(calls).toEqual(["reset"]);
});

test("after a very long hole only the newest stretch is kept", () => {
  const series = new MarketSeries();
  series.load([bar(1), bar(2)], []);
  series.pushBar(bar(3 + MAX_HOLE_S));
  expect(times(series)).toEqual([2 + MAX_HOLE_S]);
});

test("minute bars are left out", () => {
  const series = new MarketSeries();
  series.load([bar(60, { interval_s: 60 })], []);
  series.pushBar(bar(120, { interval_s: 60 }));
  expect(series.candles).toEqual([]);
});

test("of several books in a second the last is kept", () => {
  const series = new MarketSeries();
  series.load([], [book(1.1), book(1.9, { mid_price: 101 })]);
  series.pushBook(book(2.2));
  expect(series.books.map((column) => column.mid_price)).toEqual([101, 100]);
});
