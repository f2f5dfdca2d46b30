// Reading: what a line of the table of markets says, in words and tones.

import type { IconName } from "@/components/Icon";
import { duration, signedPercent } from "@/lib/format";
import type { Feed } from "@/lib/live/freshness";
import type { ChangeWindow, MarketSummary } from "@/lib/live/messages";

/** As for the page's own symbol: a second reaches the page about a second after its close. */
export const LATE_MS = 10_000;

export const CHANGE_WINDOWS: readonly ChangeWindow[] = ["10s", "1m", "1h", "24h"];

export function changeOf(line: MarketSummary, window: ChangeWindow): number | null {
  return line[`change_${window}`];
}

/** Ten seconds are mostly still: they need a digit more. */
export function changeText(line: MarketSummary, window: ChangeWindow): string {
  return signedPercent(changeOf(line, window), window === "10s" ? 3 : 2);
}

export function changeTone(change: number | null): string {
  return change === null || change === 0 ? "text-muted" : change > 0 ? "text-up" : "text-down";
}

export interface LineState {
  kind: "live" | "moved" | "late" | "unknown";
  text: string;
  icon: IconName | null;
  tone: string;
}

const UNCONNECTED: readonly Feed[] = ["disconnected", "reconnecting"];

/** Whether the page already knows that a line is old: nothing comes, or the shown symbol's market has fallen silent. */
export function isKnownOld(feed: Feed, isShown: boolean): boolean {
  return UNCONNECTED.includes(feed) || (isShown && feed === "stale");
}

/** An old line comes first: what it says of a jump is old too. */
export function stateOf(line: MarketSummary, ageMs: number | null, isOld = false): LineState {
  if (ageMs === null) return { kind: "unknown", text: "age unknown", icon: null, tone: "text-muted" };
  if (isOld || ageMs > LATE_MS) return { kind: "late", text: `stale ${duration(ageMs)}`, icon: "warning", tone: "text-warn" };
  if (line.alert_since !== null) return { kind: "moved", text: "moved > 2 % in 10 s", icon: "bolt", tone: "text-bad" };
  return { kind: "live", text: "live", icon: null, tone: "text-good" };
}
