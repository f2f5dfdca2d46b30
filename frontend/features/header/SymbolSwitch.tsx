"use client";
// Symbol switch: which instrument the page shows. A native select: every keyboard, screen reader and phone knows it.

import { Icon } from "@/components/Icon";
import { useSymbols } from "@/lib/live/symbols";
import { showSymbol } from "@/lib/symbol";

export function SymbolSwitch({ symbol }: { symbol: string }) {
  const symbols = useSymbols(symbol);
  return (
    <label className="relative flex items-center">
      <span className="sr-only">Symbol</span>
      <select
        value={symbol}
        onChange={(event) => showSymbol(event.target.value)}
        className="num min-h-8 cursor-pointer appearance-none rounded-lg border border-line bg-panel py-1 pr-8 pl-3 text-sm font-semibold hover:bg-raised"
      >
        {symbols.map((choice) => (
          <option key={choice}>{choice}</option>
        ))}
      </select>
      <Icon name="chevron" className="pointer-events-none absolute right-2.5 size-3.5 text-muted" />
    </label>
  );
}
