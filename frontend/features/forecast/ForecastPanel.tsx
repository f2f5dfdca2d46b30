"use client";
// Forecast panel: what the model expects, most reliable first, and what it would do about it.

import { Panel } from "@/components/Panel";
import { duration } from "@/lib/format";
import { useLive } from "@/lib/live/session";
import { useAge } from "@/lib/live/useAge";
import type { Prediction } from "@/lib/live/messages";
import { Direction } from "./Direction";
import { Risk } from "./Risk";
import { SafeMode } from "./SafeMode";
import { SAFE_MODE, TIER_WORDS } from "./reading";
import { TradeDecision } from "./TradeDecision";
import { Volatility } from "./Volatility";

export function ForecastPanel({ symbol, className }: { symbol: string; className?: string }) {
  const prediction = useLive((live) => live.prediction);
  const serviceTier = useLive((live) => live.status?.tier);
  const isSafe = serviceTier === SAFE_MODE || prediction?.tier === SAFE_MODE;
  return (
    <Panel id="forecast" title="Forecast" className={className} aside={<Kind prediction={prediction} isSafe={isSafe} />}>
      <div className="market flex flex-1 flex-col divide-y divide-line *:[section]:grow">
        {isSafe ? <SafeMode symbol={symbol} prediction={prediction} /> : prediction ? <Answer prediction={prediction} /> : <Waiting />}
        <Origin prediction={prediction} tier={isSafe ? SAFE_MODE : prediction?.tier} />
      </div>
    </Panel>
  );
}

function Answer({ prediction }: { prediction: Prediction }) {
  return (
    <>
      <Volatility prediction={prediction} />
      <Risk prediction={prediction} />
      <Direction prediction={prediction} />
      <TradeDecision prediction={prediction} />
    </>
  );
}

function Waiting() {
  return <p className="p-4 text-sm text-muted">No forecast yet: the first comes with the first feature row.</p>;
}

function Kind({ prediction, isSafe }: { prediction: Prediction | null; isSafe: boolean }) {
  const age = useAge(prediction?.ts_event);
  if (isSafe || !prediction) return null;
  const kind = prediction.nowcast ? "Nowcast" : "Minute forecast";
  const title = prediction.nowcast ? "Made between whole minutes; only whole minutes are scored" : "Made at a whole minute; it is scored";
  return (
    <p className="flex items-center gap-2 text-xs text-muted">
      <span title={title} className="rounded border border-line px-1.5 py-0.5">{kind}</span>
      <span className="num inline-block min-w-[6ch] text-right">{duration(age)}</span>
    </p>
  );
}

function Origin({ prediction, tier }: { prediction: Prediction | null; tier: number | undefined }) {
  return (
    <dl className="grid grid-cols-[max-content_minmax(0,1fr)] gap-x-4 gap-y-1 px-4 py-3 text-xs">
      <dt className="text-muted">Model</dt>
      <dd className="num break-words" data-testid="model-version">{prediction ? `${prediction.model} ${prediction.model_version}` : "—"}</dd>
      <dt className="text-muted">Tier</dt>
      <dd className="num">{tier === undefined ? "—" : `${tier} · ${TIER_WORDS[tier] ?? ""}`}</dd>
    </dl>
  );
}
