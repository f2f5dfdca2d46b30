import { describe, expect, test } from "vitest";
import { directionWord, expectedMove, hurdleBps, riskWord, shares, splitReasons } from "@/features/forecast/reading";

describe("forecast", () => {
  test("the move over h minutes is volatility times the root of h", () => {
    expect(expectedMove(4e-4, 9)).toBeCloseTo(12e-4, 12);
    expect(expectedMove(null, 15)).toBeNull();
  });

  test("up, flat and down add to one, with p_up given that it moves", () => {
    const parts = shares({ p_up: 0.6, p_flat: 0.1 })!;
    expect(parts.up).toBeCloseTo(0.54, 12);
    expect(parts.up + parts.flat + parts.down).toBeCloseTo(1, 12);
    expect(shares({ p_up: null, p_flat: null })).toBeNull();
  });

  test("direction says when it is close to a coin toss", () => {
    expect(directionWord({ p_up: 0.52, confidence: 0.52 })).toMatchObject({ word: "Up", isCoinToss: true });
    expect(directionWord({ p_up: 0.3, confidence: 0.7 })).toMatchObject({ word: "Down", isCoinToss: false });
    expect(directionWord({ p_up: 0.5, confidence: 0.5 })).toMatchObject({ word: "Even" });
  });

  test.each([[0.49, "Normal"], [0.5, "Elevated"], [0.7, "High"], [null, "Unknown"]])("risk %s is %s", (risk, word) => {
    expect(riskWord(risk).word).toBe(word);
  });

  test("objections to a trade stand apart from other reasons", () => {
    expect(splitReasons(["no trade: tier 3", "risk unknown", "no trade at 15 min: no edge"])).toEqual({
      trade: ["tier 3", "at 15 min: no edge"],
      other: ["risk unknown"],
    });
  });

  test("the hurdle is twice the cost of a side", () => {
    expect(hurdleBps(10.6)).toBeCloseTo(21.2, 12);
    expect(hurdleBps(null)).toBeNull();
  });
});
