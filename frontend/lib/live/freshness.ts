// Freshness: whether what the page shows is still the market.

export const STALE_AFTER_MS = 3_000;
/** A second reaches the page about a second after its close; so much later, the pipeline stands although the market moves. */
export const LATE_AFTER_MS = 10_000;

/** `waiting`: the socket is lost and a new attempt is due; `retrying`: that attempt is under way. */
export type Socket = "connecting" | "open" | "waiting" | "retrying";
/** `waiting`: connected, but no price has come yet; `late`: the market moves, but its seconds do not arrive. */
export type Feed = "connecting" | "waiting" | "live" | "late" | "stale" | "reconnecting" | "disconnected";

export interface Evidence {
  socket: Socket;
  /** Local clock, ms: when a message last proved that the market moves; null before the first snapshot. */
  marketSeenAt: number | null;
  /** What the service says about the age of its own last market event. */
  serviceEventAgeMs: number | null;
  /** Age of the newest second's close on the service's clock; null before the first. */
  priceAgeMs: number | null;
}

/** Age of the last market event by the worse of two witnesses: our own ear and the service's word. */
export function eventAgeMs(evidence: Pick<Evidence, "marketSeenAt" | "serviceEventAgeMs">, now: number): number | null {
  if (evidence.marketSeenAt === null) return null;
  return Math.max(now - evidence.marketSeenAt, evidence.serviceEventAgeMs ?? 0, 0);
}

export function feedOf(evidence: Evidence, now: number): Feed {
  if (evidence.socket === "waiting") return "disconnected";
  if (evidence.socket === "retrying") return "reconnecting";
  const age = eventAgeMs(evidence, now);
  if (age === null || evidence.socket === "connecting") return "connecting";
  if (age > STALE_AFTER_MS) return "stale";
  if (evidence.priceAgeMs === null) return "waiting";
  return evidence.priceAgeMs > LATE_AFTER_MS ? "late" : "live";
}
