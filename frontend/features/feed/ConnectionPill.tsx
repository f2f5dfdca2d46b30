"use client";
// Connection pill: is this the market now, and how fast does it come?

import { Icon } from "@/components/Icon";
import { duration } from "@/lib/format";
import { eventAgeMs } from "@/lib/live/freshness";
import { useLive, type LiveView } from "@/lib/live/session";
import { useNow } from "@/lib/live/useAge";
import { ageMs } from "@/lib/live/venueClock";
import { FEED_WORDS } from "./words";

export function ConnectionPill() {
  const feed = useLive((live) => live.feed);
  const now = useNow();
  const detail = useLive((live) => detailOf(live, now));
  const { name, tone, icon } = FEED_WORDS[feed];
  return (
    <p className={`flex min-h-7 items-center gap-2 rounded-full border px-3 text-xs font-semibold whitespace-nowrap ${tone}`} data-testid="connection">
      {icon ? <Icon name={icon} className="size-3.5" /> : <span className={`size-2 rounded-full bg-current ${feed === "live" ? "beat" : ""}`} />}
      <span>{name}</span>
      {detail && <span className="num inline-block min-w-16 text-right font-medium">{detail}</span>}
    </p>
  );
}

function detailOf(live: LiveView, now: number): string {
  if (live.feed === "live") return `${Math.round(live.messagesPerSecond)} msg/s`;
  if (live.feed === "disconnected" && live.retryAt !== null) return `retry ${duration(Math.max(0, live.retryAt - now))}`;
  if (live.feed === "late") return duration(ageMs(live.bar?.close_time, live.status, live.statusAt, now));
  if (live.feed !== "stale") return "";
  return duration(eventAgeMs({ marketSeenAt: live.marketSeenAt, serviceEventAgeMs: live.status?.last_event_age_ms ?? null }, now));
}
