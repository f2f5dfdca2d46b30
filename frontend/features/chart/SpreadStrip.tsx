"use client";
// Spread strip: the best bid and ask, and what stands between them.

import { fixed, price, quantity } from "@/lib/format";
import { useLive } from "@/lib/live/session";

export function SpreadStrip() {
  const book = useLive((live) => live.book);
  const bid = book?.bids.prices[0];
  const ask = book?.asks.prices[0];
  const spreadBps = bid !== undefined && ask !== undefined ? ((ask - bid) / ((ask + bid) / 2)) * 1e4 : null;
  return (
    <dl aria-label="Best prices" className="market num ml-auto flex flex-wrap items-center gap-x-4 gap-y-1 text-xs">
      <Side name="Bid" price={bid} size={book?.bids.quantities[0]} tone="text-up" />
      <Side name="Ask" price={ask} size={book?.asks.quantities[0]} tone="text-down" />
      <div className="flex gap-1.5">
        <dt className="text-muted">Spread</dt>
        <dd>{fixed(spreadBps, 3)} bps</dd>
      </div>
    </dl>
  );
}

interface SideProps {
  name: string;
  price: number | undefined;
  size: number | undefined;
  tone: string;
}

function Side({ name, price: best, size, tone }: SideProps) {
  return (
    <div className="flex gap-1.5">
      <dt className="text-muted">{name}</dt>
      <dd>
        <span className={`font-semibold ${tone}`}>{price(best)}</span> <span className="text-muted">× {quantity(size)}</span>
      </dd>
    </div>
  );
}
