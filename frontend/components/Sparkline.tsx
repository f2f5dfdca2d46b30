// Sparkline: the recent course of one number, as decoration beside its value.

interface SparklineProps {
  values: readonly (number | null)[];
  /** Fixed range; without it the values' own. */
  range?: readonly [number, number];
  className?: string;
}

const WIDTH = 100;
const HEIGHT = 24;

export function Sparkline({ values, range, className = "" }: SparklineProps) {
  return (
    <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true" className={className}>
      <path d={sparkPath(values, range)} fill="none" stroke="currentColor" strokeWidth={1.5} vectorEffect="non-scaling-stroke" strokeLinejoin="round" />
    </svg>
  );
}

/** SVG path over the box; a null lifts the pen. */
export function sparkPath(values: readonly (number | null)[], range?: readonly [number, number]): string {
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return "";
  const [low, high] = range ?? [Math.min(...known), Math.max(...known)];
  const span = high - low || 1;
  let pen = "M";
  return values
    .map((value, i) => {
      if (value === null) {
        pen = "M";
        return "";
      }
      const x = (i / (values.length - 1)) * WIDTH;
      const y = HEIGHT - 1 - ((value - low) / span) * (HEIGHT - 2);
      const step = `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = "L";
      return step;
    })
    .join("");
}
