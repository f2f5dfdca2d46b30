"use client";
// Safe mode: tier 5. No signal, no trade, and the reason.

import { Icon } from "@/components/Icon";
import type { Prediction } from "@/lib/live/messages";
import { SAFE_MODE } from "./reading";
import { useLatestReasons } from "./useLatestReasons";

export function SafeMode({ symbol, prediction }: { symbol: string; prediction: Prediction | null }) {
  const published = prediction?.tier === SAFE_MODE ? prediction.reasons : null;
  const asked = useLatestReasons(symbol, published === null);
  const reasons = published ?? asked ?? [];
  return (
    <section aria-labelledby="safe-title" className="px-4 py-5">
      <h3 id="safe-title" className="flex items-center gap-2 text-lg font-semibold text-warn">
        <Icon name="shield" className="size-5" />
        Safe mode
      </h3>
      <p className="mt-2 text-sm">No forecast, no signal and no trade: the features are not good enough to answer from.</p>
      {reasons.length > 0 && (
        <>
          <h4 className="mt-3 text-xs text-muted">Because</h4>
          <ul className="mt-1 list-disc pl-4 text-sm marker:text-control">
            {reasons.map((reason) => (
              <li key={reason}>{reason}</li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}
