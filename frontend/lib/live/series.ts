// Series: the seconds the chart draws, kept outside React, sorted and unique.

import { toSeconds } from "@/lib/time";
import type { Bar, OrderBook } from "./messages";

/** An hour of seconds, with slack so that trimming is rare. */
const KEEP = 3_600;
const SLACK = 600;
/** A longer hole would be drawn as a desert: the chart begins after it. */
export const MAX_HOLE_S = 900;

export interface Candle {
  /** Unix seconds of the open. */
  time: number;
  open: number;
  high: number;
  low: number;
  close: number;
  volume: number;
}

/** What the heat map needs of a book; a page holds an hour of them. */
export type BookColumn = Pick<OrderBook, "ts_event" | "mid_price" | "bid_bins" | "ask_bins">;

export interface SeriesListener {
  /** Everything changed: draw from the start. */
  onReset: () => void;
  /** One candle was added at the end or the last one revised. */
  onCandle: (candle: Candle) => void;
  onBook: (book: BookColumn) => void;
}

export class MarketSeries {
  candles: Candle[] = [];
  /** One a second, the last one in it. */
  books: BookColumn[] = [];
  private listener: SeriesListener | null = null;

  listen(listener: SeriesListener): () => void {
    this.listener = listener;
    listener.onReset();
    return () => {
      if (this.listener === listener) this.listener = null;
    };
  }

  load(bars: readonly Bar[], books: readonly OrderBook[]): void {
    this.candles = newestStretch(sortedUnique(bars.filter(isSecond).map(candleOf)));
    this.books = [];
    [...books].sort((a, b) => a.ts_event - b.ts_event).forEach((book) => this.keepBook(columnOf(book)));
    this.listener?.onReset();
  }

  pushBar(bar: Bar): void {
    if (!isSecond(bar)) return;
    const candle = candleOf(bar);
    const last = this.candles.at(-1);
    if (last && (candle.time < last.time || candle.time - last.time > MAX_HOLE_S)) return this.rebuild(candle);
    if (last?.time === candle.time) this.candles.pop();
    this.candles.push(candle);
    if (this.candles.length > KEEP + SLACK) return this.rebuild();
    this.listener?.onCandle(candle);
  }

  pushBook(book: OrderBook): void {
    const column = columnOf(book);
    this.keepBook(column);
    this.listener?.onBook(column);
  }

  private keepBook(column: BookColumn): void {
    const last = this.books.at(-1);
    if (last && toSeconds(last.ts_event) === toSeconds(column.ts_event)) this.books.pop();
    this.books.push(column);
    if (this.books.length > KEEP + SLACK) this.books = this.books.slice(-KEEP);
  }

  /** A revision of an old second, a long hole or too many candles: rare, so simply draw again. */
  private rebuild(...added: Candle[]): void {
    this.candles = newestStretch(sortedUnique([...this.candles, ...added])).slice(-KEEP);
    this.listener?.onReset();
  }
}

export function candleOf(bar: Bar): Candle {
  return {
    time: toSeconds(bar.open_time),
    open: bar.open,
    high: bar.high,
    low: bar.low,
    close: bar.close,
    volume: bar.volume,
  };
}

function columnOf({ ts_event, mid_price, bid_bins, ask_bins }: OrderBook): BookColumn {
  return { ts_event, mid_price, bid_bins, ask_bins };
}

/** Ascending by time; of two candles of one second the later in the list wins, as a revision does. */
export function sortedUnique(candles: readonly Candle[]): Candle[] {
  const byTime = new Map(candles.map((candle) => [candle.time, candle]));
  return [...byTime.values()].sort((a, b) => a.time - b.time);
}

function newestStretch(candles: Candle[]): Candle[] {
  const start = candles.findLastIndex((candle, i) => i > 0 && candle.time - candles[i - 1]!.time > MAX_HOLE_S);
  return start > 0 ? candles.slice(start) : candles;
}

function isSecond(bar: Bar): boolean {
  return bar.interval_s === 1;
}
