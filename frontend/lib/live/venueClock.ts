// Venue clock: how old things are, by the service's clock and never by the reader's.

import { toMillis } from "@/lib/time";
import type { LiveStatus } from "./messages";

/** Age in ms of something that happened at `nanos`, `now` being the local clock that read `statusAt` when `status` came. */
export function ageMs(nanos: number | undefined, status: LiveStatus | null, statusAt: number, now: number): number | null {
  if (nanos === undefined || status === null) return null;
  return Math.max(0, toMillis(status.ts) - toMillis(nanos) + sinceMs(statusAt, now));
}

export function sinceMs(statusAt: number, now: number): number {
  return Math.max(0, now - statusAt);
}
