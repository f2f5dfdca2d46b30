"use client";
// Latest reasons: the stream falls silent with its market, so the service is asked why it is in safe mode.

import { useEffect, useState } from "react";
import type { Prediction } from "@/lib/live/messages";
import { SAFE_MODE } from "./reading";

const ASK_EVERY_MS = 5_000;

export function useLatestReasons(symbol: string, isAsking: boolean): readonly string[] | null {
  const [reasons, setReasons] = useState<readonly string[] | null>(null);
  useEffect(() => {
    if (!isAsking) return;
    const abort = new AbortController();
    const ask = () => void latestReasons(symbol, abort.signal).then((found) => !abort.signal.aborted && setReasons(found));
    ask();
    const timer = setInterval(ask, ASK_EVERY_MS);
    return () => {
      abort.abort();
      clearInterval(timer);
    };
  }, [symbol, isAsking]);
  return reasons;
}

async function latestReasons(symbol: string, signal: AbortSignal): Promise<readonly string[]> {
  try {
    const response = await fetch(`/api/latest?symbol=${encodeURIComponent(symbol)}`, { signal, cache: "no-store" });
    if (!response.ok) return [`the service answers ${response.status}`];
    const prediction = (await response.json()) as Prediction;
    return prediction.tier === SAFE_MODE ? prediction.reasons : [];
  } catch {
    // Shown to the reader like any other reason; the next attempt comes by itself.
    return ["the service does not answer"];
  }
}
