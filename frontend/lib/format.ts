// Format: numbers as people read them. Unknown is a dash, never a zero.

export const DASH = "—";
/** The true minus, as wide as a digit in the page's fonts. */
const MINUS = "−";

const decimals = new Map<number, Intl.NumberFormat>();

export function fixed(value: number | null | undefined, digits: number): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  let format = decimals.get(digits);
  if (!format) {
    format = new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    decimals.set(digits, format);
  }
  const text = format.format(value);
  // What rounds to zero has no sign.
  return /[1-9]/.test(text) ? text.replace("-", MINUS) : text.replace("-", "");
}

export function signed(value: number | null | undefined, digits: number): string {
  const text = fixed(value, digits);
  return text.startsWith(MINUS) || !/[1-9]/.test(text) ? text : `+${text}`;
}

/** Quote currency with the digits that the size needs: 61,837.63 but 0.061838. */
export function price(value: number | null | undefined): string {
  return fixed(value, priceDigits(value ?? 1));
}

export function priceDigits(value: number): number {
  return value >= 100 ? 2 : value >= 1 ? 4 : 6;
}

const COMPACT = new Intl.NumberFormat("en-US", { notation: "compact", minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** Large amounts to a digit behind the point: 1.2M, 48.0K. */
export function compact(value: number | null | undefined): string {
  return value === null || value === undefined || !Number.isFinite(value) ? DASH : COMPACT.format(value);
}

/** A share in [0, 1] as percent. */
export function percent(value: number | null | undefined, digits = 1): string {
  const text = fixed(value === null || value === undefined ? value : value * 100, digits);
  return text === DASH ? text : `${text} %`;
}

export function signedPercent(value: number | null | undefined, digits: number): string {
  const text = signed(value === null || value === undefined ? value : value * 100, digits);
  return text === DASH ? text : `${text} %`;
}

/** A duration in the unit that reads best: 240 ms, 3.2 s, 4 min, 2 h. */
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return DASH;
  if (ms < 1_000) return `${Math.round(Math.max(ms, 0))} ms`;
  if (ms < 59_950) return `${fixed(ms / 1_000, 1)} s`;
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${fixed(ms / 3_600_000, 1)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

/** Significant digits for quantities of unknown size: 0.00123, 4.56, 1,234.5. */
export function quantity(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  const size = Math.abs(value);
  if (size !== 0 && size < 0.0001) return value.toExponential(2).replaceAll("-", MINUS);
  const digits = size >= 1_000 ? 1 : size >= 10 ? 2 : size >= 1 ? 3 : 4;
  return fixed(value, digits);
}
