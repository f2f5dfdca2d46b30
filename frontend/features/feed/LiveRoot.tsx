"use client";
// Live root: marks everything inside with the state of the feed, so that styles can set old values back.

import type { ReactNode } from "react";
import { useLive } from "@/lib/live/session";

export function LiveRoot({ children }: { children: ReactNode }) {
  const feed = useLive((live) => live.feed);
  return (
    <div data-feed={feed} className="flex min-h-dvh flex-col">
      {children}
    </div>
  );
}
