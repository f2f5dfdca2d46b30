import { describe, expect, test } from "vitest";
import { ageGrade } from "@/features/feed/ageGrade";
import { families, shownValue } from "@/features/featureTable/families";
import { FEATURES } from "@/lib/features.gen";

describe("features", () => {
  test("every declared feature is in exactly one family", () => {
    expect(families().flatMap((family) => family.features)).toHaveLength(FEATURES.length);
  });

  test("returns and volatilities are shown in basis points, the rest as it is", () => {
    expect(shownValue(0.00123, "log return")).toBe("+12.30");
    expect(shownValue(0.0004, "per sqrt minute")).toBe("4.00");
    expect(shownValue(-0.5, "ratio in [-1, 1]")).toBe("−0.500");
    expect(shownValue(12.3456, "a unit of tomorrow")).toBe("12.35");
  });

  test.each([["price_features", 3_000, "fresh"], ["price_features", 3_001, "aging"], ["price_features", 60_001, "stale"], ["volatility_context", 3_600_000, "fresh"], ["price_features", null, "unknown"]])(
    "%s of age %s ms is %s",
    (view, age, grade) => expect(ageGrade(view, age)).toBe(grade),
  );
});
