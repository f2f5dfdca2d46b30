"use client";
// Feed banner: one line that is always there, so that nothing moves: where the data come from, or that they are old.

import { Icon } from "@/components/Icon";
import { useLive } from "@/lib/live/session";
import { clockTime, dateTime } from "@/lib/time";
import { FEED_WARNINGS, SOURCE_WORDS } from "./words";

export function FeedBanner({ symbol }: { symbol: string }) {
  const feed = useLive((live) => live.feed);
  const source = useLive((live) => live.status?.source ?? live.bar?.source);
  const lastSecond = useLive((live) => live.bar?.close_time);
  const isUnknown = useLive((live) => live.status === null && live.market !== null && !live.market.summaries.some((line) => line.symbol === symbol));
  const warning = feed === "disconnected" && isUnknown ? `${symbol} is not followed here. Choose another symbol.` : FEED_WARNINGS[feed];
  const tone = warning === "" ? "text-muted" : feed === "disconnected" ? "bg-bad/12 font-medium text-bad" : "bg-warn/12 font-medium text-warn";
  return (
    <section aria-label="State of the data" className={`flex min-h-14 items-center gap-x-4 border-b border-line px-4 py-1.5 text-xs md:min-h-8 ${tone}`}>
      {/* Only the warning is spoken, and only when it changes. */}
      <div role="status" className="empty:-mr-4">
        {warning && (
          <p className="flex items-center gap-2">
            <Icon name="warning" />
            {warning}
          </p>
        )}
      </div>
      {!warning && <p>{source ? SOURCE_WORDS[source].sentence : "Waiting for the first message."}</p>}
      {lastSecond !== undefined && (
        <p className="num ml-auto shrink-0 text-right">
          <span className="hidden sm:inline">{dateTime(lastSecond).slice(0, 11)}</span>
          {clockTime(lastSecond)} UTC
        </p>
      )}
    </section>
  );
}
