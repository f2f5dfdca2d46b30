"use client";
// Market panel: every followed symbol side by side, and who moves most.

import { Panel } from "@/components/Panel";
import { useLive } from "@/lib/live/session";
import { MarketTable } from "./MarketTable";
import { MoversPart } from "./MoversPart";

export function MarketPanel({ symbol, className }: { symbol: string; className?: string }) {
  const market = useLive((live) => live.market);
  const lines = market?.summaries ?? [];
  return (
    <Panel id="markets" title="Markets" className={className} aside={<Followed count={lines.length} />}>
      {lines.length === 0 ? (
        <p className="p-4 text-sm text-muted">Waiting for the first second of any symbol.</p>
      ) : (
        <div className="market grid gap-x-6 gap-y-3 p-3 xl:grid-cols-[minmax(0,1fr)_15rem]">
          <MarketTable lines={lines} shown={symbol} />
          <MoversPart lines={lines} movers={market?.movers ?? []} />
        </div>
      )}
    </Panel>
  );
}

function Followed({ count }: { count: number }) {
  return (
    <p className="text-xs text-muted">
      <span className="num text-ink">{count}</span> followed
    </p>
  );
}
