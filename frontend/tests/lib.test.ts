import { describe, expect, test } from "vitest";
import { sparkPath } from "@/components/Sparkline";
import { readEnv } from "@/lib/env";
import { RateMeter } from "@/lib/live/rate";
import { ageMs } from "@/lib/live/venueClock";
import { parseSymbol } from "@/lib/symbol";
import { nextTheme, parseTheme } from "@/lib/theme";
import { clockTime, toSeconds } from "@/lib/time";
import { SECOND, status, T0 } from "./made";

describe("small parts", () => {
  test("a gap lifts the sparkline's pen", () => {
    expect(sparkPath([0, null, 1, 1], [0, 1])).toMatch(/^M0\.0 23\.0M66\.7 1\.0L100\.0 1\.0$/);
    expect(sparkPath([1])).toBe("");
  });

  test("ages follow the service's clock and go on between its messages", () => {
    expect(ageMs((T0 + 1) * SECOND, status(3), 500, 750)).toBe(2_250);
    expect(ageMs(T0 * SECOND, null, 0, 0)).toBeNull();
  });

  test("whole seconds survive the loss of nanoseconds in JSON", () => {
    const parsed = JSON.parse(`{"t": 1795234956000000000}`) as { t: number };
    expect(toSeconds(parsed.t)).toBe(1_795_234_956);
    expect(clockTime(T0 * SECOND)).toBe("00:00:00");
  });

  test("the rate is of the last three seconds", () => {
    const rate = new RateMeter();
    for (let now = 0; now < 6_000; now += 100) rate.count(now);
    expect(rate.perSecond(6_000)).toBeCloseTo(10, 0);
    expect(rate.perSecond(60_000)).toBe(0);
  });

  test("a wrong service address is refused by name", () => {
    expect(readEnv({}).serviceUrl.href).toBe("http://127.0.0.1:18300/");
    expect(() => readEnv({ CANDLEWICK_SERVICE_URL: "localhost:1" })).toThrow("CANDLEWICK_SERVICE_URL: expected http://host:port, found \"localhost:1\"");
    expect(() => readEnv({ CANDLEWICK_SERVICE_URL: "http://a/b" })).toThrow("CANDLEWICK_SERVICE_URL");
  });

  test("only symbols of the contract reach the page", () => {
    expect(["BTC-USD-PERP.STANDX", "<script>", undefined, ["A", "B"]].map(parseSymbol)).toEqual(["BTC-USD-PERP.STANDX", "BTCUSDT", "BTCUSDT", "BTCUSDT"]);
  });

  test("themes go round and unknown cookies are the system's", () => {
    expect(nextTheme(nextTheme(nextTheme("system")))).toBe("system");
    expect(parseTheme("neon")).toBe("system");
  });
});
