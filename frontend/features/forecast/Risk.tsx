"use client";
// Risk: how likely rough weather is in the next quarter of an hour.

import { Meter, TONE_TEXT } from "@/components/Meter";
import { Sparkline } from "@/components/Sparkline";
import { fixed, percent } from "@/lib/format";
import type { Prediction } from "@/lib/live/messages";
import { useLive } from "@/lib/live/session";
import { RISK_ALERT, RISK_CLEAR, riskWord } from "./reading";

export function Risk({ prediction }: { prediction: Prediction }) {
  const { risk_score: risk, spike_prob: spike, anomaly_score: anomaly } = prediction;
  const { word, tone } = riskWord(risk);
  return (
    <section aria-labelledby="risk-title" className="px-4 py-3.5">
      <div className="flex items-center justify-between gap-3">
        <h3 id="risk-title" className="text-sm font-semibold">Risk</h3>
        <Trail />
        <p className={`num text-lg font-semibold ${TONE_TEXT[tone]}`}>
          <span className="mr-2 font-sans text-sm">{word}</span>
          <span data-testid="risk">{fixed(risk, 2)}</span>
        </p>
      </div>
      <div className="mt-1.5">
        <Meter label="Risk score" value={risk} text={`${fixed(risk, 2)}, ${word}`} tone={tone} marks={[RISK_CLEAR, RISK_ALERT]} size="thick" />
      </div>
      <p className="mt-1 text-xs text-muted">Chance that the next 15 min are among the roughest tenth of 30 days</p>
      <div className="mt-2.5 grid grid-cols-2 gap-4">
        <Small label="Volatility spike" value={spike} text={percent(spike)} />
        <Small label="Anomaly score" value={anomaly} text={fixed(anomaly, 2)} />
      </div>
    </section>
  );
}

function Small({ label, value, text }: { label: string; value: number | null; text: string }) {
  return (
    <div>
      <p className="mb-1 flex justify-between text-xs">
        <span className="text-muted">{label}</span>
        <span className="num">{text}</span>
      </p>
      <Meter label={label} value={value} text={text} tone="accent" />
    </div>
  );
}

function Trail() {
  const trail = useLive((live) => live.trail);
  return <Sparkline values={trail.map((point) => point.risk)} range={[0, 1]} className="h-6 min-w-0 flex-1 text-muted" />;
}
