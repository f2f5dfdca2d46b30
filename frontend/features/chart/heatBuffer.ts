// Heat buffer: the off-screen picture of the order book, a pixel per (second, price row).

import type { BookColumn } from "@/lib/live/series";
import { toSeconds } from "@/lib/time";
import { brightnessOf, gridAround, isNear, quantities, ROWS, shade, type Brightness, type Grid } from "./heatGrid";
import type { Rgba } from "./palette";

const COLUMNS = 4_600;
/** Brightness follows the last two minutes, and is set again every half minute. */
const SCALE_BOOKS = 120;
const RESCALE_S = 30;
/**
 * A row shows the least that its bin held over so many seconds. Bins follow the mid price, a resting order does not:
 * what stays in every one of them is where it rests, finer than a bin, and what only flickers is left out.
 */
const RESTING_S = 3;
/** A second without a book repeats the last one's, but no longer: an old book is not the market. */
const CARRY_S = 2;

export interface HeatImage {
  canvas: HTMLCanvasElement;
  /** Unix second of column 0. */
  start: number;
  columns: number;
  grid: Grid;
}

export class HeatBuffer {
  private readonly canvas = document.createElement("canvas");
  private readonly context = this.canvas.getContext("2d");
  /** Quantities of the last seconds, the one of `second` at `second % RESTING_S`. */
  private readonly recent = Array.from({ length: RESTING_S }, () => new Float32Array(ROWS).fill(NaN));
  private readonly column = new ImageData(1, ROWS);
  private colours: readonly Rgba[] = [];
  private grid: Grid = gridAround(1);
  private brightness: Brightness = { ordinary: 1, brightest: 1 };
  private scaledAt = 0;
  private start = 0;
  private last: { second: number; book: BookColumn } | null = null;

  constructor() {
    this.canvas.width = COLUMNS;
    this.canvas.height = ROWS;
  }

  image(): HeatImage | null {
    if (!this.last) return null;
    return { canvas: this.canvas, start: this.start, columns: this.last.second - this.start + 1, grid: this.grid };
  }

  /** Draw everything again: other colours, other books. */
  paint(books: readonly BookColumn[], colours: readonly Rgba[]): void {
    this.colours = colours;
    this.context?.clearRect(0, 0, COLUMNS, ROWS);
    this.last = null;
    const newest = books.at(-1);
    if (!newest) return;
    const end = toSeconds(newest.ts_event);
    const shown = books.filter((book) => end - toSeconds(book.ts_event) < COLUMNS / 2);
    this.start = toSeconds(shown[0]!.ts_event);
    this.grid = gridAround(newest.mid_price);
    this.brightness = brightnessOf(books.slice(-SCALE_BOOKS));
    this.recent.forEach((column) => column.fill(NaN));
    this.scaledAt = end;
    shown.forEach((book) => this.add(book));
  }

  /** Add the newest book; false when it does not fit and everything must be painted again. */
  push(book: BookColumn): boolean {
    const second = toSeconds(book.ts_event);
    const fits = this.last !== null && second >= this.last.second && second < this.start + COLUMNS;
    if (!fits || !isNear(this.grid, book.mid_price) || second - this.scaledAt > RESCALE_S) return false;
    this.add(book);
    return true;
  }

  private add(book: BookColumn): void {
    const second = toSeconds(book.ts_event);
    if (this.last && second < this.last.second) return;
    if (this.last) this.carry(this.last.second, second);
    this.draw(book, second);
    this.last = { second, book };
  }

  private carry(from: number, to: number): void {
    for (let second = from + 1; second < Math.min(to, from + CARRY_S + 1); second += 1) this.draw(this.last!.book, second);
    if (to - from > CARRY_S + 1) this.recent.forEach((column) => column.fill(NaN));
  }

  private draw(book: BookColumn, second: number): void {
    quantities(book, this.grid, this.recent[second % RESTING_S]!);
    const pixels = this.column.data;
    for (let row = 0; row < ROWS; row += 1) pixels.set(this.colours[this.shadeOf(row)]!, row * 4);
    this.context?.putImageData(this.column, second - this.start, 0);
  }

  private shadeOf(row: number): number {
    let least = Infinity;
    for (const column of this.recent) {
      const quantity = column[row]!;
      if (quantity < least) least = quantity;
    }
    return least === Infinity ? 0 : shade(least, this.brightness);
  }
}
