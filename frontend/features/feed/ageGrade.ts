// Age grade: how good a feature view of some age still is, by the tiers' own limits.

export type AgeGrade = "fresh" | "aging" | "stale" | "unknown";

/** Tier 1 asks for rows of at most 3 s, tier 2 of at most 60 s. */
const FRESH_MS = 3_000;
const AGING_MS = 60_000;
/** Slow views are renewed hourly. */
const SLOW_VIEWS: ReadonlySet<string> = new Set(["volatility_context"]);
const HOUR_MS = 3_600_000;

export function ageGrade(view: string, ageMs: number | null): AgeGrade {
  if (ageMs === null) return "unknown";
  const [fresh, aging] = SLOW_VIEWS.has(view) ? [1.5 * HOUR_MS, 3 * HOUR_MS] : [FRESH_MS, AGING_MS];
  return ageMs <= fresh ? "fresh" : ageMs <= aging ? "aging" : "stale";
}

export const GRADE_WORDS: Record<AgeGrade, { word: string; sign: string; tone: string }> = {
  fresh: { word: "fresh", sign: "●", tone: "text-good" },
  aging: { word: "aging", sign: "▲", tone: "text-warn" },
  stale: { word: "stale", sign: "■", tone: "text-bad" },
  unknown: { word: "unknown", sign: "○", tone: "text-muted" },
};
