"use client";
// Header: who, what, how much, and whether it is true now.

import { Icon } from "@/components/Icon";
import { ConnectionPill } from "@/features/feed/ConnectionPill";
import { SourceBadge } from "@/features/feed/SourceBadge";
import { useView } from "@/lib/view";
import { BigPrice } from "./BigPrice";
import { SymbolSwitch } from "./SymbolSwitch";
import { ThemeButton } from "./ThemeButton";

export function Header({ symbol }: { symbol: string }) {
  return (
    <header className="border-b border-line bg-panel">
      <div className="flex flex-wrap items-center gap-x-6 gap-y-2 px-4 py-2.5">
        <h1 className="flex items-center gap-2.5 text-base font-semibold">
          <Mark />
          Candlewick
        </h1>
        <SymbolSwitch symbol={symbol} />
        <BigPrice />
        <div className="ml-auto flex flex-wrap items-center gap-2">
          <SourceBadge />
          <ConnectionPill />
          <button
            type="button"
            onClick={() => useView.setState({ isHelpOpen: true })}
            aria-label="Keyboard shortcuts"
            className="grid size-8 place-items-center rounded-lg border border-line text-muted hover:bg-raised"
          >
            <Icon name="keyboard" />
          </button>
          <ThemeButton />
        </div>
      </div>
    </header>
  );
}

/** A candle of both kinds: the wax and the chart's. */
function Mark() {
  return (
    <svg viewBox="0 0 24 24" className="size-6" aria-hidden="true">
      <path d="M12 1.5c1.8 2 2.4 3.1 2.4 4.2a2.4 2.4 0 0 1-4.8 0c0-1.1.6-2.2 2.4-4.2Z" className="fill-down" />
      <path d="M12 8v14" className="stroke-up" strokeWidth="2" strokeLinecap="round" />
      <rect x="7.5" y="10" width="9" height="9" rx="1.5" className="fill-up" />
    </svg>
  );
}
