// Words for the state of the feed and for where its data come from.

import type { IconName } from "@/components/Icon";
import type { Feed } from "@/lib/live/freshness";
import type { Source } from "@/lib/live/messages";

export const FEED_WORDS: Record<Feed, { name: string; tone: string; icon: IconName | null }> = {
  connecting: { name: "Connecting", tone: "border-control text-muted", icon: null },
  waiting: { name: "Waiting for data", tone: "border-control text-muted", icon: null },
  live: { name: "Live", tone: "border-good/60 text-good", icon: null },
  late: { name: "Late", tone: "border-warn text-warn", icon: "warning" },
  stale: { name: "Stale", tone: "border-warn text-warn", icon: "warning" },
  reconnecting: { name: "Reconnecting", tone: "border-warn text-warn", icon: "plug" },
  disconnected: { name: "Disconnected", tone: "border-bad text-bad", icon: "plug" },
};

/** What a reader must know when the page is not live; empty while there is nothing to say. */
export const FEED_WARNINGS: Record<Feed, string> = {
  connecting: "",
  waiting: "",
  live: "",
  late: "Late: the market moves, but its seconds do not arrive. Price, candles and features are the last known.",
  stale: "Stale: the market has fallen silent. Values are the last known, not the present.",
  reconnecting: "Reconnecting to the service. Values are the last known, not the present.",
  disconnected: "Disconnected from the service. Values are the last known, not the present.",
};

export const SOURCE_WORDS: Record<Source, { name: string; tone: string; short: string; sentence: string }> = {
  live: { name: "LIVE", tone: "border-good/60 text-good", short: "the venue, live", sentence: "The venue's own stream, as it happens." },
  recording: { name: "RECORDING", tone: "border-warn text-warn", short: "a recording of the venue", sentence: "A recording of the real market, played again. Not today's prices." },
  simulated: { name: "SIMULATED", tone: "border-bad text-bad", short: "a simulator", sentence: "A made market from a simulator. These prices never existed." },
};
