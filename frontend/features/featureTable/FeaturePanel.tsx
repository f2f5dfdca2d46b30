"use client";
// Feature panel: every feature of the newest row, by family; an unknown one with its reason.

import { useState } from "react";
import { Panel } from "@/components/Panel";
import { DASH, duration } from "@/lib/format";
import type { FeatureRow } from "@/lib/live/messages";
import { useLive } from "@/lib/live/session";
import { useAge, useSinceStatus } from "@/lib/live/useAge";
import { families, shownUnit, shownValue, type Declaration, type Family } from "./families";

const FAMILIES = families();

export function FeaturePanel({ className }: { className?: string }) {
  const row = useLive((live) => live.features);
  const [areFormulasShown, setFormulasShown] = useState(false);
  return (
    <Panel
      id="features"
      title="Features"
      className={className}
      aside={<RowFacts row={row} areFormulasShown={areFormulasShown} onToggle={() => setFormulasShown(!areFormulasShown)} />}
    >
      <div className="market columns-1 gap-8 p-4 md:columns-2 xl:columns-3">
        {FAMILIES.map((family) => (
          <FamilyTable key={family.name} family={family} row={row} areFormulasShown={areFormulasShown} />
        ))}
      </div>
    </Panel>
  );
}

interface RowFactsProps {
  row: FeatureRow | null;
  areFormulasShown: boolean;
  onToggle: () => void;
}

function RowFacts({ row, areFormulasShown, onToggle }: RowFactsProps) {
  const age = useAge(row?.ts_event);
  const unknown = row ? Object.values(row.values).filter((value) => value === null).length : 0;
  return (
    <div className="flex flex-wrap items-center gap-x-4 gap-y-1 text-xs text-muted">
      <span>
        Row age <span className="num inline-block min-w-[6ch] text-right text-ink">{duration(age)}</span>
      </span>
      <span>
        Unknown <span className="num text-ink">{unknown}</span>
      </span>
      <span>
        Set <span className="num text-ink">{row?.feature_set ?? DASH}</span>
      </span>
      <button type="button" aria-pressed={areFormulasShown} onClick={onToggle} className="min-h-7 rounded-lg border border-line px-2.5 hover:bg-raised aria-pressed:border-accent aria-pressed:text-accent">
        Formulas
      </button>
    </div>
  );
}

interface FamilyTableProps {
  family: Family;
  row: FeatureRow | null;
  areFormulasShown: boolean;
}

function FamilyTable({ family, row, areFormulasShown }: FamilyTableProps) {
  return (
    <table className="mb-5 w-full break-inside-avoid text-xs">
      <caption className="mb-1 text-left">
        <span className="flex items-baseline justify-between border-b border-line pb-1">
          <span className="text-sm font-semibold capitalize">{family.name}</span>
          <FamilyAge family={family.name} />
        </span>
      </caption>
      <thead className="sr-only">
        <tr>
          <th scope="col">Feature</th>
          <th scope="col">Value</th>
          <th scope="col">Unit</th>
        </tr>
      </thead>
      <tbody className="num">
        {family.features.map((feature) => (
          <FeatureLine key={feature.name} feature={feature} row={row} isFormulaShown={areFormulasShown} />
        ))}
      </tbody>
    </table>
  );
}

function FamilyAge({ family }: { family: string }) {
  const age = useLive((live) => live.status?.feature_ages_ms[`${family}_features`] ?? null);
  const since = useSinceStatus();
  return <span className="num text-muted">{duration(age === null ? null : age + since)}</span>;
}

interface FeatureLineProps {
  feature: Declaration;
  row: FeatureRow | null;
  isFormulaShown: boolean;
}

function FeatureLine({ feature, row, isFormulaShown }: FeatureLineProps) {
  const value = row?.values[feature.name] ?? null;
  return (
    <tr className="align-baseline">
      <th scope="row" className="py-0.5 pr-2 text-left font-normal break-words">
        {feature.name}
        {isFormulaShown && <span className="block pb-1 font-sans text-muted">{feature.formula}</span>}
      </th>
      <td className="py-0.5 text-right whitespace-nowrap">
        {value === null ? <Unknown reason={row?.reasons[feature.name]} /> : shownValue(value, feature.unit)}
      </td>
      <td className="w-[10ch] py-0.5 pl-2 whitespace-nowrap text-muted">{shownUnit(feature.unit)}</td>
    </tr>
  );
}

function Unknown({ reason }: { reason: string | undefined }) {
  return (
    <span className="text-muted">
      {reason && <span className="font-sans text-warn">{reason} </span>}
      {DASH}
    </span>
  );
}
