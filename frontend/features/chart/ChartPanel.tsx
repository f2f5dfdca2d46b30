"use client";
// Chart panel: candles and volume over the order book's heat map, with the newest best prices.

import { useEffect, useRef, useState, type KeyboardEvent } from "react";
import { Icon } from "@/components/Icon";
import type { Candle, MarketSeries } from "@/lib/live/series";
import { useLive } from "@/lib/live/session";
import { useScheme } from "@/lib/useScheme";
import { INTERVALS, toggleHeat, useView, type Interval } from "@/lib/view";
import { ChartController, type ChartView } from "./controller";
import { Legend } from "./Legend";
import { SpreadStrip } from "./SpreadStrip";

export const INTERVAL_NAMES: Record<Interval, string> = { 1: "1s", 5: "5s", 60: "1m" };

interface ChartPanelProps {
  series: MarketSeries;
  symbol: string;
  className?: string;
}

export function ChartPanel({ series, symbol, className = "" }: ChartPanelProps) {
  return (
    <section id="chart" aria-labelledby="chart-title" className={`flex min-w-0 flex-col rounded-xl border border-line bg-panel ${className}`}>
      <header className="flex min-h-12 flex-wrap items-center gap-x-4 gap-y-2 border-b border-line px-4 py-2">
        <h2 id="chart-title" className="text-xs font-semibold tracking-wider text-muted uppercase">
          Price, volume and depth
        </h2>
        <div className="flex items-center gap-2">
          <IntervalSwitch />
          <HeatSwitch />
        </div>
        <SpreadStrip />
      </header>
      <Canvas series={series} symbol={symbol} />
    </section>
  );
}

function IntervalSwitch() {
  const interval = useView((view) => view.interval);
  return (
    <div role="group" aria-label="Candle interval" className="flex overflow-hidden rounded-lg border border-line">
      {INTERVALS.map((choice) => (
        <button
          key={choice}
          type="button"
          aria-pressed={choice === interval}
          onClick={() => useView.setState({ interval: choice })}
          className="num min-h-7 min-w-9 px-2 text-xs text-muted hover:bg-raised aria-pressed:bg-accent aria-pressed:font-semibold aria-pressed:text-panel"
        >
          {INTERVAL_NAMES[choice]}
        </button>
      ))}
    </div>
  );
}

function HeatSwitch() {
  const isShown = useView((view) => view.isHeatShown);
  return (
    <button
      type="button"
      aria-pressed={isShown}
      onClick={toggleHeat}
      className="flex min-h-7 items-center gap-1.5 rounded-lg border border-line px-2.5 text-xs text-muted hover:bg-raised aria-pressed:border-accent aria-pressed:text-accent"
    >
      <Icon name="layers" className="size-3.5" />
      Depth heat map
    </button>
  );
}

function Canvas({ series, symbol }: { series: MarketSeries; symbol: string }) {
  const container = useRef<HTMLDivElement>(null);
  const controller = useRef<ChartController>(null);
  const [candle, setCandle] = useState<Candle | null>(null);
  const interval = useView((view) => view.interval);
  const isHeatShown = useView((view) => view.isHeatShown);
  const hasPrice = useLive((live) => live.bar !== null);
  const scheme = useScheme();

  useEffect(() => {
    if (!container.current) return;
    const created = new ChartController(container.current, series, initialView(), setCandle);
    controller.current = created;
    return () => {
      controller.current = null;
      created.destroy();
    };
  }, [series]);

  useEffect(() => controller.current?.show({ interval, isHeatShown, scheme }), [series, interval, isHeatShown, scheme]);

  return (
    <div
      role="group"
      tabIndex={0}
      aria-label={`Chart of ${symbol}, ${INTERVAL_NAMES[interval]} candles${isHeatShown ? " over the order-book heat map" : ""}. Arrow keys scroll, plus and minus zoom, End shows the newest.`}
      onKeyDown={(event) => controller.current && steer(controller.current, event)}
      className="relative m-2 min-h-0 flex-1"
    >
      <Legend candle={candle} />
      {!hasPrice && <p className="absolute inset-0 z-10 grid place-items-center text-sm text-muted">Waiting for the first second</p>}
      <div ref={container} className="market-canvas absolute inset-0" data-testid="chart" />
    </div>
  );
}

// The effect that follows sets the reader's choices at once; the first paint only needs some.
function initialView(): ChartView {
  return { interval: 1, isHeatShown: true, scheme: "dark" };
}

const STEERING: Record<string, (chart: ChartController) => void> = {
  ArrowLeft: (chart) => chart.scroll(-10),
  ArrowRight: (chart) => chart.scroll(10),
  "+": (chart) => chart.zoom(1.25),
  "=": (chart) => chart.zoom(1.25),
  "-": (chart) => chart.zoom(0.8),
  End: (chart) => chart.showNewest(),
};

function steer(chart: ChartController, event: KeyboardEvent) {
  const action = STEERING[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action(chart);
}
