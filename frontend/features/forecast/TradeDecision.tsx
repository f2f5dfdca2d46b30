// Trade decision: would the model trade for one minute or for 15, and what stands against it.

import { fixed, signed } from "@/lib/format";
import type { Prediction } from "@/lib/live/messages";
import { hurdleBps, splitReasons } from "./reading";

export function TradeDecision({ prediction }: { prediction: Prediction }) {
  const { trade, other } = splitReasons(prediction.reasons);
  return (
    <section aria-labelledby="trade-title" className="px-4 py-3.5">
      <div className="flex items-baseline justify-between gap-3">
        <h3 id="trade-title" className="text-sm font-semibold">Would it trade?</h3>
        <p className="flex gap-3 text-sm">
          <Decision minutes={1} wouldTrade={prediction.should_trade} testId="should-trade" />
          <Decision minutes={15} wouldTrade={prediction.should_trade_15m} testId="should-trade-15m" />
        </p>
      </div>
      <dl className="mt-1.5 grid grid-cols-[1fr_max-content] gap-y-1 text-xs">
        <dt className="text-muted">Expected edge in 1 min</dt>
        <dd className="num text-right">{signed(prediction.expected_edge_bps, 2)} bps</dd>
        <dt className="text-muted">Expected edge in 15 min</dt>
        <dd className="num text-right">{signed(prediction.expected_edge_15m_bps, 2)} bps</dd>
        <dt className="text-muted">Must exceed, twice the cost a side</dt>
        <dd className="num text-right">{fixed(hurdleBps(prediction.cost_bps), 2)} bps</dd>
      </dl>
      <ReasonList reasons={[...trade, ...other]} />
    </section>
  );
}

function Decision({ minutes, wouldTrade, testId }: { minutes: number; wouldTrade: boolean; testId: string }) {
  return (
    <span>
      <span className="mr-1 text-xs text-muted">{minutes} min</span>
      <span className={`font-semibold ${wouldTrade ? "text-good" : "text-muted"}`} data-testid={testId}>
        {wouldTrade ? "Yes" : "No"}
      </span>
    </span>
  );
}

function ReasonList({ reasons }: { reasons: readonly string[] }) {
  return (
    <ul className="mt-1.5 min-h-9 list-disc pl-4 text-xs text-muted marker:text-control">
      {reasons.map((reason) => (
        <li key={reason}>{reason}</li>
      ))}
    </ul>
  );
}
