// Legend: open, high, low, close and volume of the candle under the crosshair, or of the newest.

import { price, quantity, signedPercent } from "@/lib/format";
import { clockTime } from "@/lib/time";
import type { Candle } from "@/lib/live/series";

export function Legend({ candle }: { candle: Candle | null }) {
  const isUp = candle !== null && candle.close >= candle.open;
  return (
    <dl
      aria-label="Candle"
      className="num pointer-events-none absolute top-2 left-2 z-10 flex max-w-[calc(100%-6.5rem)] flex-wrap gap-x-3 rounded-md bg-panel/85 px-2.5 py-1.5 text-xs"
    >
      <Entry name="O" value={price(candle?.open)} />
      <Entry name="H" value={price(candle?.high)} />
      <Entry name="L" value={price(candle?.low)} />
      <Entry name="C" value={price(candle?.close)} />
      <Entry name="V" value={quantity(candle?.volume)} />
      <div className={`hidden sm:block ${isUp ? "text-up" : "text-down"}`}>
        <dt className="sr-only">Change</dt>
        <dd>{candle ? signedPercent(candle.close / candle.open - 1, 3) : "—"}</dd>
      </div>
      <Entry name="UTC" value={candle ? clockTime(candle.time * 1e9) : "—"} className="hidden sm:flex" />
    </dl>
  );
}

function Entry({ name, value, className = "flex" }: { name: string; value: string; className?: string }) {
  return (
    <div className={`gap-1.5 ${className}`}>
      <dt className="text-muted">{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
