import { expect, test } from "vitest";
import { eventAgeMs, feedOf, STALE_AFTER_MS, type Evidence } from "@/lib/live/freshness";

const fresh: Evidence = { socket: "open", marketSeenAt: 10_000, serviceEventAgeMs: 100, priceAgeMs: 1_200 };

test.each<[string, Partial<Evidence>, number, string]>([
  ["events come", {}, 10_500, "live"],
  ["exactly three seconds of silence are still live", {}, 10_000 + STALE_AFTER_MS, "live"],
  ["more than three seconds are stale", {}, 10_001 + STALE_AFTER_MS, "stale"],
  ["the service's own word is enough", { serviceEventAgeMs: 3_001 }, 10_100, "stale"],
  ["a service that does not know is not a witness", { serviceEventAgeMs: null }, 10_100, "live"],
  ["books without seconds are late: the pipeline stands, not the market", { priceAgeMs: 10_001 }, 10_100, "late"],
  ["silence is the graver word", { priceAgeMs: 60_000 }, 60_000, "stale"],
  ["without a first price it waits", { priceAgeMs: null }, 10_100, "waiting"],
  ["a lost socket is disconnected, however fresh the last event", { socket: "waiting" }, 10_100, "disconnected"],
  ["an attempt under way is reconnecting", { socket: "retrying" }, 10_100, "reconnecting"],
  ["before the first snapshot it is connecting", { socket: "connecting", marketSeenAt: null }, 10_100, "connecting"],
])("%s", (_, change, now, feed) => {
  expect(feedOf({ ...fresh, ...change }, now)).toBe(feed);
});

test("the age is the worse of both witnesses", () => {
  expect(eventAgeMs(fresh, 10_050)).toBe(100);
  expect(eventAgeMs(fresh, 12_000)).toBe(2_000);
});

test("it recovers by itself when the next event comes", () => {
  expect(feedOf(fresh, 20_000)).toBe("stale");
  expect(feedOf({ ...fresh, marketSeenAt: 20_000 }, 20_100)).toBe("live");
});
