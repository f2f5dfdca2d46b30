"use client";
// Data panel: where the data come from, and how old each part of them is.

import { Panel } from "@/components/Panel";
import { duration } from "@/lib/format";
import { eventAgeMs } from "@/lib/live/freshness";
import { useLive } from "@/lib/live/session";
import { useNow, useSinceStatus } from "@/lib/live/useAge";
import { dateTime } from "@/lib/time";
import { ageGrade, GRADE_WORDS } from "./ageGrade";
import { SOURCE_WORDS } from "./words";

export function DataPanel({ className }: { className?: string }) {
  return (
    <Panel id="data" title="Data" className={className} aside={<LastEvent />}>
      <div className="market grid gap-x-8 gap-y-4 p-4 md:grid-cols-2">
        <Origin />
        <FeatureAges />
      </div>
    </Panel>
  );
}

function LastEvent() {
  const now = useNow();
  const age = useLive((live) =>
    eventAgeMs({ marketSeenAt: live.marketSeenAt, serviceEventAgeMs: live.status?.last_event_age_ms ?? null }, now),
  );
  return (
    <p className="text-xs text-muted">
      Last market event <span className="num text-ink">{duration(age)}</span> ago
    </p>
  );
}

function Origin() {
  const status = useLive((live) => live.status);
  const bar = useLive((live) => live.bar);
  const refused = useLive((live) => live.refused);
  const source = status?.source ?? bar?.source;
  return (
    <div className="min-w-0">
      <dl className="grid grid-cols-[max-content_minmax(0,1fr)] gap-x-4 gap-y-1.5 text-xs">
        <Fact name="Source" value={source ? SOURCE_WORDS[source].short : "—"} />
        <Fact name="Session" value={status?.session ?? bar?.session ?? "—"} />
        <Fact name="Last second" value={bar ? `${dateTime(bar.close_time)} UTC` : "—"} />
        <Fact name="Made by" value={bar ? PROVENANCE_WORDS[bar.provenance] : "—"} />
        <Fact name="Order book" value={bar ? (bar.book_valid ? "in sequence" : "not in sequence") : "—"} />
        <Fact name="Refused frames" value={String(refused)} />
      </dl>
    </div>
  );
}

const PROVENANCE_WORDS = { live: "the stream", backfill: "the venue's history", reconcile: "a later revision" };

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <>
      <dt className="text-muted">{name}</dt>
      <dd className="num break-words">{value}</dd>
    </>
  );
}

function FeatureAges() {
  const ages = useLive((live) => live.status?.feature_ages_ms);
  const since = useSinceStatus();
  return (
    <table className="w-full text-xs">
      <caption className="sr-only">Age of the newest row of each feature view</caption>
      <thead className="text-left text-muted">
        <tr>
          <th scope="col" className="pb-1.5 font-medium">Feature view</th>
          <th scope="col" className="pb-1.5 text-right font-medium">Age</th>
          <th scope="col" className="w-24 pb-1.5 pl-5 font-medium">State</th>
        </tr>
      </thead>
      <tbody className="num">
        {Object.entries(ages ?? {}).map(([view, age]) => (
          <AgeRow key={view} view={view} ageMs={age === null ? null : age + since} />
        ))}
        {!ages && (
          <tr>
            <td colSpan={3} className="text-muted">Waiting for the first status.</td>
          </tr>
        )}
      </tbody>
    </table>
  );
}

function AgeRow({ view, ageMs }: { view: string; ageMs: number | null }) {
  const { word, sign, tone } = GRADE_WORDS[ageGrade(view, ageMs)];
  return (
    <tr>
      <th scope="row" className="py-0.5 text-left font-normal">{view}</th>
      <td className="py-0.5 text-right">{duration(ageMs)}</td>
      <td className={`py-0.5 pl-5 ${tone}`}>
        <span aria-hidden="true">{sign} </span>
        {word}
      </td>
    </tr>
  );
}
