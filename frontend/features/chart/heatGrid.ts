// Heat grid: where a book's bins fall on a fixed grid of prices, and how bright they are.

import type { BookColumn } from "@/lib/live/series";

const BPS = 1e-4;
/** Rows are a quarter of a basis point high, finer than the bins, so that a bin's edges follow the mid price. */
const ROW_BPS = 0.25;
/** ± 80 bps around the price at which the grid was laid. */
export const ROWS = 640;
/** The colours end at this share of the recent quantities; only the largest walls are as bright. */
const BRIGHT_SHARE = 0.985;
/** Above 1: sets ordinary depth back, so that candles and walls stand out. */
const CONTRAST = 1.7;

export interface Grid {
  /** Price at the upper edge of row 0. */
  top: number;
  rowHeight: number;
}

export function gridAround(price: number): Grid {
  const rowHeight = price * ROW_BPS * BPS;
  return { top: price + (ROWS / 2) * rowHeight, rowHeight };
}

/** True while the mid price is in the grid's middle half; outside it the grid should be laid anew. */
export function isNear(grid: Grid, price: number): boolean {
  const row = (grid.top - price) / grid.rowHeight;
  return row > ROWS / 4 && row < (ROWS * 3) / 4;
}

/** Quantity of the 1-bp bin at `price`; null where the book does not say. */
export function quantityAt(book: BookColumn, price: number): number | null {
  const distance = (price - book.mid_price) / (book.mid_price * BPS);
  const bins = distance < 0 ? book.bid_bins : book.ask_bins;
  return bins[Math.floor(Math.abs(distance))] ?? null;
}

/** Fill one column with the quantity of each row; NaN where nothing is known. */
export function quantities(book: BookColumn, grid: Grid, column: Float32Array): void {
  for (let row = 0; row < ROWS; row += 1) {
    column[row] = quantityAt(book, grid.top - (row + 0.5) * grid.rowHeight) ?? NaN;
  }
}

/** What is drawn dim and what is drawn brightest, in base currency. */
export interface Brightness {
  ordinary: number;
  brightest: number;
}

/** 1 … 255 for a known quantity, by its logarithm: ordinary depth stays visible beside walls a hundred times as large. */
export function shade(quantity: number, { ordinary, brightest }: Brightness): number {
  const share = Math.log1p(quantity / ordinary) / Math.log1p(brightest / ordinary);
  return 1 + Math.round(254 * Math.min(1, share) ** CONTRAST);
}

export function brightnessOf(books: readonly BookColumn[]): Brightness {
  const known = books.flatMap((book) => [...book.bid_bins, ...book.ask_bins]).filter((q) => q !== null && q > 0) as number[];
  known.sort((a, b) => a - b);
  const at = (share: number) => known[Math.floor((known.length - 1) * share)] ?? 1;
  return { ordinary: at(0.5), brightest: at(BRIGHT_SHARE) };
}
