import { expect, test } from "vitest";
import { duration, fixed, percent, price, quantity, signed, signedPercent } from "@/lib/format";

test("unknown is a dash, never a zero", () => {
  expect([price(null), percent(undefined), signed(NaN, 2), duration(null), quantity(null), fixed(Infinity, 1)]).toEqual(Array(6).fill("—"));
});

test.each([
  [price(61_837.63), "61,837.63"],
  [price(3.14159), "3.1416"],
  [price(0.061838), "0.061838"],
  [signed(1.5, 2), "+1.50"],
  [signed(-1.5, 2), "−1.50"],
  [signed(-0.0001, 2), "0.00"],
  [signed(0, 2), "0.00"],
  [percent(0.4567), "45.7 %"],
  [signedPercent(-0.00031, 3), "−0.031 %"],
  [duration(240.4), "240 ms"],
  [duration(3_240), "3.2 s"],
  [duration(90_000), "2 min"],
  [duration(5_400_000), "1.5 h"],
  [duration(-3), "0 ms"],
  [quantity(1_234.56), "1,234.6"],
  [quantity(0.1234567), "0.1235"],
  [quantity(0.0000123), "1.23e−5"],
])("%s", (text, expected) => {
  expect(text).toBe(expected);
});
