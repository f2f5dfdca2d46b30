import { expect, test } from "vitest";
import { brightnessOf, gridAround, isNear, quantities, quantityAt, ROWS, shade } from "@/features/chart/heatGrid";
import { book } from "./made";

const bins = (at: Record<number, number | null>) => Array.from({ length: 30 }, (_, i) => (i in at ? at[i]! : 1));
const mid10k = book(1, { mid_price: 10_000, bid_bins: bins({ 0: 5, 2: 9, 29: null }), ask_bins: bins({ 0: 7 }) });

test.each([
  ["just below the mid", 9_999.5, 5],
  ["just above the mid", 10_000.5, 7],
  ["2.5 bps below", 9_997.5, 9],
  ["at the edge of the bin below", 9_998, 9],
  ["where the local book does not reach", 9_970.5, null],
  ["beyond 30 bps", 9_960, null],
])("%s", (_, price, quantity) => {
  expect(quantityAt(mid10k, price)).toBe(quantity);
});

test("a bin covers four rows of a quarter basis point", () => {
  const column = new Float32Array(ROWS);
  quantities(mid10k, gridAround(10_000), column);
  expect([...column.slice(ROWS / 2 - 4, ROWS / 2 + 4)]).toEqual([7, 7, 7, 7, 5, 5, 5, 5]);
});

test("what is unknown is not zero", () => {
  const column = new Float32Array(ROWS);
  quantities(mid10k, gridAround(10_000), column);
  expect(column[0]).toBeNaN();
  expect(shade(0, { ordinary: 1, brightest: 10 })).toBe(1);
});

test("shades grow with quantity and end at the brightest", () => {
  const brightness = { ordinary: 1, brightest: 50 };
  const shades = [0.5, 1, 5, 25, 50, 500].map((quantity) => shade(quantity, brightness));
  expect([...shades].sort((a, b) => a - b)).toEqual(shades);
  expect(shades.at(-1)).toBe(255);
  expect(shades.at(-2)).toBe(255);
});

test("brightness follows the recent books and survives empty ones", () => {
  expect(brightnessOf([mid10k])).toEqual({ ordinary: 1, brightest: 7 });
  expect(brightnessOf([])).toEqual({ ordinary: 1, brightest: 1 });
});

test("the grid is laid anew before the price leaves it", () => {
  const grid = gridAround(10_000);
  expect(isNear(grid, 10_030)).toBe(true);
  expect(isNear(grid, 10_050)).toBe(false);
});
