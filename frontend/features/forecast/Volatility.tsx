"use client";
// Volatility: how far the price is expected to move, which is what the model knows best.

import { Sparkline } from "@/components/Sparkline";
import { fixed, percent, priceDigits } from "@/lib/format";
import type { Prediction } from "@/lib/live/messages";
import { useLive } from "@/lib/live/session";
import { expectedMove } from "./reading";

const BPS = 1e4;

const HORIZONS = [5, 15, 60] as const;

export function Volatility({ prediction }: { prediction: Prediction }) {
  const { price } = prediction;
  const of = { 5: prediction.volatility_5m, 15: prediction.volatility_15m, 60: prediction.volatility_60m };
  return (
    <section aria-labelledby="volatility-title" className="px-4 py-4">
      <h3 id="volatility-title" className="text-sm font-semibold">
        Expected move <span className="font-normal text-muted">in 15 min</span>
      </h3>
      <div className="mt-1 flex items-end justify-between gap-3">
        <p className="num text-3xl font-semibold text-accent">±{percent(expectedMove(of[15], 15), 3)}</p>
        <Trail />
      </div>
      <Interval prediction={prediction} />
      <table className="mt-3 w-full">
        <caption className="sr-only">Volatility forecast: one standard deviation of the price change</caption>
        <thead className="text-xs text-muted">
          <tr>
            <th scope="col" className="text-left font-normal">Next</th>
            <th scope="col" className="text-right font-normal">± 1σ</th>
            <th scope="col" className="text-right font-normal">± price</th>
            <th scope="col" className="text-right font-normal">bps/√min</th>
          </tr>
        </thead>
        <tbody className="num text-sm">
          {HORIZONS.map((minutes) => (
            <Row key={minutes} minutes={minutes} volatility={of[minutes]} price={price} />
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Trail() {
  const trail = useLive((live) => live.trail);
  return <Sparkline values={trail.map((point) => point.volatility)} className="mb-1.5 h-7 w-28 text-accent" />;
}

function Row({ minutes, volatility, price }: { minutes: number; volatility: number | null; price: number | null }) {
  const move = expectedMove(volatility, minutes);
  return (
    <tr>
      <th scope="row" className="py-0.5 text-left font-sans font-normal">{minutes} min</th>
      <td className="py-0.5 text-right font-semibold">{percent(move, 3)}</td>
      <td className="py-0.5 text-right">{fixed(move === null || price === null ? null : move * price, priceDigits(price ?? 1))}</td>
      <td className="py-0.5 text-right text-muted" data-testid={`volatility-${minutes}m`}>{fixed(volatility === null ? null : volatility * BPS, 2)}</td>
    </tr>
  );
}

/** The 15-minute volatility and the band it is expected in. */
function Interval({ prediction }: { prediction: Prediction }) {
  const { volatility_15m: value, volatility_15m_low: low, volatility_15m_high: high } = prediction;
  if (value === null || low === null || high === null) return null;
  const span = Math.max(high, value) * 1.08;
  const at = (volatility: number) => `${(volatility / span) * 100}%`;
  const text = `${percent(expectedMove(low, 15), 3)} to ${percent(expectedMove(high, 15), 3)}`;
  return (
    <div className="mt-2.5">
      <div role="img" aria-label={`15 minute move: interval ${text}`} className="relative h-2.5 rounded-full bg-track">
        <div className="absolute inset-y-0 rounded-full bg-accent/40" style={{ left: at(low), width: at(high - low) }} />
        <div className="absolute -inset-y-0.5 w-1 -translate-x-1/2 rounded-full bg-accent" style={{ left: at(value) }} />
      </div>
      <p className="mt-1 flex justify-between text-xs text-muted">
        <span>Interval</span>
        <span className="num">{text}</span>
      </p>
    </div>
  );
}
