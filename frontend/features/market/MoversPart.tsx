"use client";
// Movers part: who rose and who fell most over a window that the reader chooses.

import { useState } from "react";
import { Icon } from "@/components/Icon";
import type { ChangeWindow, Market, MarketSummary } from "@/lib/live/messages";
import { CHANGE_WINDOWS, changeOf, changeText } from "./reading";
import { SymbolLink } from "./SymbolLink";

interface MoversProps {
  lines: readonly MarketSummary[];
  movers: Market["movers"];
}

export function MoversPart({ lines, movers }: MoversProps) {
  const [window, setWindow] = useState<ChangeWindow>("1h");
  const found = movers.find((group) => group.window === window);
  const bySymbol = new Map(lines.map((line) => [line.symbol, line]));
  const pick = (symbols: readonly string[] = []) => symbols.flatMap((symbol) => bySymbol.get(symbol) ?? []);
  const [up, down] = [pick(found?.up), pick(found?.down)];
  const most = Math.max(...[...up, ...down].map((line) => Math.abs(changeOf(line, window) ?? 0)), 0);
  return (
    <section aria-labelledby="movers-title" className="min-w-0 text-xs xl:border-l xl:border-line xl:pl-5">
      <header className="mb-2 flex items-center justify-between gap-3">
        <h3 id="movers-title" className="font-medium text-muted">Top movers</h3>
        <WindowSwitch window={window} onChange={setWindow} />
      </header>
      <div className="grid grid-cols-2 gap-x-6 gap-y-2 xl:grid-cols-1">
        <Side way="up" lines={up} window={window} most={most} />
        <Side way="down" lines={down} window={window} most={most} />
      </div>
    </section>
  );
}

function WindowSwitch({ window, onChange }: { window: ChangeWindow; onChange: (window: ChangeWindow) => void }) {
  return (
    <div role="group" aria-label="Window of the top movers" className="flex overflow-hidden rounded-lg border border-line">
      {CHANGE_WINDOWS.map((choice) => (
        <button
          key={choice}
          type="button"
          aria-pressed={choice === window}
          onClick={() => onChange(choice)}
          className="num min-h-7 px-2 text-muted hover:bg-raised aria-pressed:bg-accent aria-pressed:font-semibold aria-pressed:text-panel"
        >
          {choice}
        </button>
      ))}
    </div>
  );
}

interface SideProps {
  way: "up" | "down";
  lines: readonly MarketSummary[];
  window: ChangeWindow;
  most: number;
}

const WAYS = {
  up: { name: "Rose", tone: "text-up", bar: "bg-up/20" },
  down: { name: "Fell", tone: "text-down", bar: "bg-down/20" },
} as const;

function Side({ way, lines, window, most }: SideProps) {
  const { name, tone, bar } = WAYS[way];
  return (
    <div>
      <h4 className={`mb-1 flex items-center gap-1 font-medium ${tone}`}>
        <Icon name={way} className="size-3" />
        {name}
      </h4>
      {lines.length === 0 && <p className="py-0.5 text-muted">None</p>}
      <ol>
        {lines.map((line) => (
          <li key={line.symbol} className="relative flex items-center justify-between gap-2 pr-1.5">
            <span aria-hidden="true" className={`absolute inset-y-0.5 left-0 rounded-sm ${bar}`} style={{ width: `${share(line, window, most)}%` }} />
            <span className="relative">
              <SymbolLink symbol={line.symbol} />
            </span>
            <span className={`num relative ${tone}`}>{changeText(line, window)}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}

function share(line: MarketSummary, window: ChangeWindow, most: number): number {
  return most === 0 ? 0 : (100 * Math.abs(changeOf(line, window) ?? 0)) / most;
}
