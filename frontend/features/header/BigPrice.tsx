"use client";
// Big price: the newest second's close, with its direction told by arrow, sign and colour.

import { Icon } from "@/components/Icon";
import { price, signedPercent } from "@/lib/format";
import { useLive } from "@/lib/live/session";

const MOVES = {
  1: { icon: "up", tone: "text-up", word: "up" },
  0: { icon: "flat", tone: "text-ink", word: "unchanged" },
  [-1]: { icon: "down", tone: "text-down", word: "down" },
} as const;

export function BigPrice() {
  const close = useLive((live) => live.bar?.close);
  const move = useLive((live) => live.move);
  const logReturn = useLive((live) => live.features?.values.return_1m ?? null);
  const { icon, tone, word } = MOVES[move];
  return (
    <div className="market flex items-baseline gap-3">
      <p className={`num flex items-center gap-1.5 text-2xl font-semibold ${tone}`}>
        <Icon name={icon} className="size-5" />
        <span className="sr-only">Price, {word}: </span>
        <span data-testid="price" className="inline-block min-w-[9ch]">
          {price(close)}
        </span>
      </p>
      <p className={`num inline-block min-w-[11ch] text-xs ${logReturn === null ? "text-muted" : logReturn < 0 ? "text-down" : "text-up"}`}>
        {signedPercent(logReturn === null ? null : Math.expm1(logReturn), 3)} <span className="text-muted">1m</span>
      </p>
    </div>
  );
}
