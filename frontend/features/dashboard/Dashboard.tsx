"use client";
// Dashboard: the page's parts and the one session they share.

import { useSearchParams } from "next/navigation";
import { useEffect, useState } from "react";
import { ChartPanel } from "@/features/chart/ChartPanel";
import { DataPanel } from "@/features/feed/DataPanel";
import { FeedBanner } from "@/features/feed/FeedBanner";
import { LiveRoot } from "@/features/feed/LiveRoot";
import { FeaturePanel } from "@/features/featureTable/FeaturePanel";
import { ForecastPanel } from "@/features/forecast/ForecastPanel";
import { Header } from "@/features/header/Header";
import { MarketPanel } from "@/features/market/MarketPanel";
import { Shortcuts } from "@/features/shortcuts/Shortcuts";
import { MarketSeries } from "@/lib/live/series";
import { openSession } from "@/lib/live/session";
import { parseSymbol } from "@/lib/symbol";
import type { Theme } from "@/lib/theme";
import { useView } from "@/lib/view";

export function Dashboard({ theme }: { theme: Theme }) {
  const symbol = parseSymbol(useSearchParams().get("symbol"));
  const [series] = useState(() => new MarketSeries());
  useEffect(() => useView.setState({ theme }), [theme]);
  useEffect(() => openSession(symbol, series), [symbol, series]);
  return (
    <LiveRoot>
      <Header symbol={symbol} />
      <FeedBanner symbol={symbol} />
      <main id="main" tabIndex={-1} className="grid flex-1 grid-cols-1 gap-3 p-3 lg:grid-cols-[minmax(0,1fr)_23rem]">
        <ChartPanel series={series} symbol={symbol} className="h-[36rem] lg:h-[max(34rem,calc(100dvh-23rem))]" />
        <ForecastPanel symbol={symbol} className="lg:col-start-2 lg:row-span-2 lg:row-start-1" />
        <MarketPanel symbol={symbol} />
        <DataPanel className="lg:col-span-2" />
        <FeaturePanel className="lg:col-span-2" />
      </main>
      <Footer />
      <Shortcuts />
    </LiveRoot>
  );
}

function Footer() {
  return (
    <footer className="flex flex-wrap gap-x-6 gap-y-1 px-4 pb-4 text-xs text-muted">
      <p>Research software, not financial advice. Times are UTC.</p>
      <p>
        Charts by{" "}
        <a href="https://www.tradingview.com/" rel="noreferrer" className="underline underline-offset-2">
          TradingView Lightweight Charts™
        </a>
      </p>
    </footer>
  );
}
