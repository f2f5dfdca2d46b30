"use client";
// Market table: one line a symbol, each with its own age. A phone shows the columns that tell most.

import { Icon } from "@/components/Icon";
import { Sparkline } from "@/components/Sparkline";
import { compact, DASH, fixed, price } from "@/lib/format";
import type { ChangeWindow, MarketSummary } from "@/lib/live/messages";
import { useLive } from "@/lib/live/session";
import { useAge } from "@/lib/live/useAge";
import { changeOf, changeText, changeTone, isKnownOld, stateOf, type LineState } from "./reading";
import { SymbolLink } from "./SymbolLink";

const BPS = 1e4;
const NO_PRICES: readonly number[] = [];
const WIDE = "hidden md:table-cell";
const PART = "px-1.5 whitespace-nowrap first:pl-0 last:pr-0";
const WORD = `${PART} text-left`;
const NUMBER = `${PART} py-1 text-right`;

export function MarketTable({ lines, shown }: { lines: readonly MarketSummary[]; shown: string }) {
  return (
    <table className="w-full self-start text-xs max-sm:text-[11px]">
      <caption className="sr-only">
        Every followed symbol: price, mean of the last minute, volatility in basis points per square-root minute, changes and quote volume of the last minute
      </caption>
      <thead className="text-muted">
        <tr className="border-b border-line">
          <Head kind={WORD}>
            <span className="pl-2">Symbol</span>
          </Head>
          <Head kind={WORD} className={`${WIDE} lg:max-xl:hidden`}>2 min</Head>
          <Head>Price</Head>
          <Head className={WIDE}>Avg 1m</Head>
          <Head>10 s</Head>
          <Head>1 m</Head>
          <Head className={WIDE}>1 h</Head>
          <Head className={WIDE}>24 h</Head>
          <Head>Vol 1m</Head>
          <Head className={`${WIDE} lg:max-2xl:hidden`}>Vol 5m</Head>
          <Head className={WIDE}>Turnover 1m</Head>
          <Head kind={WORD}>
            <span className="max-sm:sr-only">State</span>
          </Head>
        </tr>
      </thead>
      <tbody className="num">
        {lines.map((line) => (
          <Line key={line.symbol} line={line} isShown={line.symbol === shown} />
        ))}
      </tbody>
    </table>
  );
}

function Head({ kind = NUMBER, className = "", children }: { kind?: string; className?: string; children: React.ReactNode }) {
  return (
    <th scope="col" className={`pb-1.5 font-medium ${kind} ${className}`}>
      {children}
    </th>
  );
}

function Line({ line, isShown }: { line: MarketSummary; isShown: boolean }) {
  const isSilent = useLive((live) => isKnownOld(live.feed, isShown));
  const state = stateOf(line, useAge(line.ts_event), isSilent);
  const prices = useLive((live) => live.prices[line.symbol] ?? NO_PRICES);
  const isOld = state.kind === "late";
  return (
    <tr data-testid={`market-${line.symbol}`} data-state={state.kind} className={`border-b border-line/60 last:border-b-0 ${isOld ? "text-muted" : ""}`}>
      <th scope="row" className={`${WORD} py-0.5 font-medium`}>
        <SymbolLink symbol={line.symbol} isShown={isShown} />
      </th>
      <td className={`${WORD} ${WIDE} lg:max-xl:hidden`}>
        <Sparkline values={prices} className={`h-5 w-20 ${trendTone(prices)}`} />
      </td>
      <td className={`${NUMBER} font-semibold`}>
        {price(line.price)}
        <span className="block font-normal text-muted md:hidden">
          <span className="sr-only">mean of 1 minute </span>
          {line.average_1m === null ? <Unknown line={line} name="average_1m" /> : `⌀ ${price(line.average_1m)}`}
        </span>
      </td>
      <td className={`${NUMBER} ${WIDE}`}>{line.average_1m === null ? <Unknown line={line} name="average_1m" /> : price(line.average_1m)}</td>
      <Change line={line} window="10s" isOld={isOld} />
      <Change line={line} window="1m" isOld={isOld} />
      <Change line={line} window="1h" isOld={isOld} className={WIDE} />
      <Change line={line} window="24h" isOld={isOld} className={WIDE} />
      <td className={NUMBER}>{volatility(line, "volatility_1m")}</td>
      <td className={`${NUMBER} ${WIDE} lg:max-2xl:hidden`}>{volatility(line, "volatility_5m")}</td>
      <td className={`${NUMBER} ${WIDE}`}>{line.quote_volume_1m === null ? <Unknown line={line} name="quote_volume_1m" /> : compact(line.quote_volume_1m)}</td>
      <td className={`${WORD} md:w-44 md:pl-4`}>
        <State state={state} />
      </td>
    </tr>
  );
}

interface ChangeProps {
  line: MarketSummary;
  window: ChangeWindow;
  isOld: boolean;
  className?: string;
}

function Change({ line, window, isOld, className = "" }: ChangeProps) {
  const change = changeOf(line, window);
  return (
    <td className={`${NUMBER} ${isOld ? "" : changeTone(change)} ${className}`}>
      {change === null ? <Unknown line={line} name={`change_${window}`} /> : changeText(line, window)}
    </td>
  );
}

function volatility(line: MarketSummary, name: "volatility_1m" | "volatility_5m") {
  const value = line[name];
  return value === null ? <Unknown line={line} name={name} /> : fixed(value * BPS, 2);
}

function Unknown({ line, name }: { line: MarketSummary; name: string }) {
  const reason = line.reasons[name];
  return (
    <span className="text-muted" title={reason}>
      {DASH}
      {reason && <span className="sr-only"> {reason}</span>}
    </span>
  );
}

function State({ state: { text, icon, tone, kind } }: { state: LineState }) {
  return (
    <span className={`inline-flex items-center gap-1.5 font-sans ${tone} ${kind === "moved" ? "font-semibold" : ""}`}>
      {icon ? <Icon name={icon} className="size-3.5" /> : <span className="size-1.5 rounded-full bg-current" />}
      <span className="max-sm:sr-only">{text}</span>
    </span>
  );
}

function trendTone(prices: readonly number[]): string {
  const [first, last] = [prices.at(0), prices.at(-1)];
  return first === undefined || last === undefined || first === last ? "text-flat" : last > first ? "text-up" : "text-down";
}
