// Meter: a number in [0, 1] as a bar, with optional marks at thresholds. The label and value stand beside it as text.

interface MeterProps {
  label: string;
  /** In [0, 1]; null when unknown. */
  value: number | null;
  /** The value as text, already formatted. */
  text: string;
  tone?: Tone;
  marks?: readonly number[];
  size?: "thin" | "thick";
}

export type Tone = "good" | "warn" | "bad" | "accent" | "flat" | "up" | "down";

export const TONE_BG: Record<Tone, string> = {
  good: "bg-good",
  warn: "bg-warn",
  bad: "bg-bad",
  accent: "bg-accent",
  flat: "bg-flat",
  up: "bg-up",
  down: "bg-down",
};

export const TONE_TEXT: Record<Tone, string> = {
  good: "text-good",
  warn: "text-warn",
  bad: "text-bad",
  accent: "text-accent",
  flat: "text-muted",
  up: "text-up",
  down: "text-down",
};

export function Meter({ label, value, text, tone = "accent", marks = [], size = "thin" }: MeterProps) {
  const share = value === null ? 0 : Math.min(Math.max(value, 0), 1);
  return (
    <div
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={1}
      aria-valuenow={share}
      aria-valuetext={text}
      className={`relative w-full overflow-hidden rounded-full bg-track ${size === "thick" ? "h-2.5" : "h-1.5"}`}
    >
      <div className={`h-full origin-left rounded-full transition-transform duration-300 ${TONE_BG[tone]}`} style={{ transform: `scaleX(${share})` }} />
      {marks.map((mark) => (
        <span key={mark} className="absolute inset-y-0 w-0.5 bg-panel" style={{ left: `${mark * 100}%` }} />
      ))}
    </div>
  );
}
