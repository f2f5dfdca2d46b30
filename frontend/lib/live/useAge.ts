"use client";
// Age: hooks for ages that go on by themselves between messages.

import { ageMs, sinceMs } from "./venueClock";
import { useLive } from "./session";

/** Shown ages change at most twice a second: faster is noise. */
const STEP_MS = 500;

export function useNow(): number {
  return useLive((live) => Math.floor(live.now / STEP_MS) * STEP_MS);
}

/** Age in ms of a venue time in nanoseconds; null while the venue's clock is unknown. */
export function useAge(nanos: number | undefined): number | null {
  const now = useNow();
  const status = useLive((live) => live.status);
  const statusAt = useLive((live) => live.statusAt);
  return ageMs(nanos, status, statusAt, now);
}

/** Milliseconds since the service's last status. */
export function useSinceStatus(): number {
  const now = useNow();
  return sinceMs(
    useLive((live) => live.statusAt),
    now,
  );
}
