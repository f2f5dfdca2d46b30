// Reading: what a prediction's numbers mean to a person. Pure.

import type { Prediction } from "@/lib/live/messages";
import type { Tone } from "@/components/Meter";

export const SAFE_MODE = 5;
/** `definitions`: an alert fires at 0.7 and clears at 0.5. */
export const RISK_CLEAR = 0.5;
export const RISK_ALERT = 0.7;
/** The edge must exceed this multiple of the cost of one side. */
export const EDGE_OVER_COST = 2;
/** Below this chance that the sign is right, direction is close to a coin toss. */
const COIN_TOSS = 0.55;

/** One standard deviation of the move over `minutes`, from volatility per square-root minute: σ·√h. */
export function expectedMove(volatility: number | null, minutes: number): number | null {
  return volatility === null ? null : volatility * Math.sqrt(minutes);
}

export interface Shares {
  up: number;
  flat: number;
  down: number;
}

/** `p_up` is the chance of up given that the price moves; these three add to one. */
export function shares({ p_up, p_flat }: Pick<Prediction, "p_up" | "p_flat">): Shares | null {
  if (p_up === null) return null;
  const flat = p_flat ?? 0;
  return { up: p_up * (1 - flat), flat, down: (1 - p_up) * (1 - flat) };
}

export function directionWord({ p_up, confidence }: Pick<Prediction, "p_up" | "confidence">): { word: string; tone: Tone; arrow: "up" | "down" | "flat"; isCoinToss: boolean } | null {
  if (p_up === null) return null;
  const isCoinToss = (confidence ?? 0.5) < COIN_TOSS;
  if (p_up === 0.5) return { word: "Even", tone: "flat", arrow: "flat", isCoinToss };
  return p_up > 0.5 ? { word: "Up", tone: "up", arrow: "up", isCoinToss } : { word: "Down", tone: "down", arrow: "down", isCoinToss };
}

export function riskWord(risk: number | null): { word: string; tone: Tone } {
  if (risk === null) return { word: "Unknown", tone: "flat" };
  if (risk >= RISK_ALERT) return { word: "High", tone: "bad" };
  return risk >= RISK_CLEAR ? { word: "Elevated", tone: "warn" } : { word: "Normal", tone: "good" };
}

/** Why the model would not trade, and what else it has to say. */
export function splitReasons(reasons: readonly string[]): { trade: string[]; other: string[] } {
  const prefix = /^no trade(?:: | (?=at 15 min: ))/;
  return {
    trade: reasons.filter((reason) => prefix.test(reason)).map((reason) => reason.replace(prefix, "")),
    other: reasons.filter((reason) => !prefix.test(reason)),
  };
}

/** What must be exceeded before trading pays, in bps. */
export function hurdleBps(costBps: number | null): number | null {
  return costBps === null ? null : EDGE_OVER_COST * costBps;
}

export const TIER_WORDS: Record<number, string> = {
  1: "fresh features",
  2: "recent features",
  3: "estimated features",
  4: "features from the lake",
  5: "safe mode",
};
