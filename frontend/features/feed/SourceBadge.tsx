"use client";
// Source badge: live, a recording or made up; never a secret.

import { useLive } from "@/lib/live/session";
import { SOURCE_WORDS } from "./words";

export function SourceBadge() {
  const source = useLive((live) => live.status?.source ?? live.bar?.source ?? null);
  const words = source ? SOURCE_WORDS[source] : { name: "NO DATA", tone: "border-control text-muted", short: "no message yet" };
  return (
    <p title={words.short} data-testid="source" className={`num flex min-h-7 items-center rounded-md border border-dashed px-2 text-xs font-semibold tracking-wide ${words.tone}`}>
      <span className="sr-only">Data source: </span>
      {words.name}
    </p>
  );
}
