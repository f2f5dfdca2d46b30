// Direction: the next minute's sign, shown with how little is known about it.

import { Icon } from "@/components/Icon";
import { TONE_TEXT } from "@/components/Meter";
import { duration, percent } from "@/lib/format";
import type { Prediction } from "@/lib/live/messages";
import { directionWord, shares, type Shares } from "./reading";

export function Direction({ prediction }: { prediction: Prediction }) {
  const parts = shares(prediction);
  const direction = directionWord(prediction);
  return (
    <section aria-labelledby="direction-title" className="px-4 py-3.5">
      <div className="flex items-baseline justify-between gap-3">
        <h3 id="direction-title" className="text-sm font-semibold">
          Direction <span className="font-normal text-muted">in {duration(prediction.horizon_s * 1000)}</span>
        </h3>
        {direction && (
          <p className={`flex items-center gap-1 text-sm font-semibold ${TONE_TEXT[direction.tone]}`}>
            <Icon name={direction.arrow} />
            {direction.word}
          </p>
        )}
      </div>
      {parts ? <ShareBar parts={parts} /> : <p className="mt-1 text-sm text-muted">Unknown</p>}
      <p className="mt-2 flex justify-between gap-3 text-xs text-muted">
        <span>Chance that the sign is right</span>
        <span className="num text-ink" data-testid="confidence">{percent(prediction.confidence)}</span>
      </p>
      {direction?.isCoinToss && <p className="mt-1 text-xs text-muted">Close to a coin toss, as the next minute nearly always is. Volatility and risk are what can be known.</p>}
    </section>
  );
}

const PARTS = [
  { key: "up", name: "Up", tone: "bg-up", align: "text-left" },
  { key: "flat", name: "Flat", tone: "bg-flat", align: "text-center" },
  { key: "down", name: "Down", tone: "bg-down", align: "text-right" },
] as const;

function ShareBar({ parts }: { parts: Shares }) {
  const text = PARTS.map(({ key, name }) => `${name} ${percent(parts[key])}`).join(", ");
  return (
    <>
      <div role="img" aria-label={text} className="mt-2 flex h-2.5 gap-0.5 overflow-hidden rounded-full">
        {PARTS.map(({ key, tone }) => (
          <div key={key} className={tone} style={{ flexGrow: parts[key], flexBasis: 0 }} />
        ))}
      </div>
      <dl className="mt-1 grid grid-cols-3 text-xs">
        {PARTS.map(({ key, name, align }) => (
          <div key={key} className={align}>
            <dt className="inline text-muted">{name} </dt>
            <dd className="num inline" data-testid={`share-${key}`}>{percent(parts[key])}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}
