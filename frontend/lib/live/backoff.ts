// Backoff: how long to wait before the next attempt, with full jitter so that pages do not return in step.

const BASE_MS = 500;
const CAP_MS = 8_000;

/** Uniform in [0, min(cap, base · 2^attempt)); `random` is uniform in [0, 1). */
export function fullJitter(attempt: number, random: () => number): number {
  return random() * Math.min(CAP_MS, BASE_MS * 2 ** attempt);
}
