// Palette: the chart's colours in both themes. Blue is up and orange is down: tellable apart with any colour vision.

export type Rgba = readonly [number, number, number, number];
type Rgb = readonly [number, number, number];

export interface ChartPalette {
  background: string;
  text: string;
  grid: string;
  line: string;
  up: string;
  down: string;
  volumeUp: string;
  volumeDown: string;
  crosshair: string;
  label: string;
  /** 256 shades; 0 is "nothing known" and transparent. */
  heat: readonly Rgba[];
}

export const PALETTES: Record<"dark" | "light", ChartPalette> = {
  dark: {
    background: "#0f1520",
    text: "#9ba8bc",
    grid: "rgba(155, 168, 188, 0.07)",
    line: "#1f2937",
    up: "#eaf5ff",
    down: "#ff9d2e",
    volumeUp: "#4b88b5",
    volumeDown: "#a9702f",
    crosshair: "#9ba8bc",
    label: "#2b3950",
    heat: ramp([[15, 21, 32], [15, 50, 65], [18, 92, 101], [34, 140, 138], [112, 218, 202]], 1),
  },
  light: {
    background: "#ffffff",
    text: "#4a566a",
    grid: "rgba(74, 86, 106, 0.08)",
    line: "#d3dae5",
    up: "#0a4f9e",
    down: "#b04a00",
    volumeUp: "#7fb0de",
    volumeDown: "#e3a66f",
    crosshair: "#4a566a",
    label: "#33415a",
    heat: ramp([[255, 255, 255], [230, 245, 243], [186, 226, 221], [120, 196, 188], [47, 148, 141]], 1),
  },
};

/** 256 colours evenly along the stops; the first is transparent. */
function ramp(stops: readonly Rgb[], alpha: number): readonly Rgba[] {
  return Array.from({ length: 256 }, (_, shade) => {
    if (shade === 0) return [0, 0, 0, 0] as const;
    const position = ((shade - 1) / 254) * (stops.length - 1);
    const from = Math.min(Math.floor(position), stops.length - 2);
    const mix = (channel: 0 | 1 | 2) => Math.round(stops[from]![channel] + (stops[from + 1]![channel] - stops[from]![channel]) * (position - from));
    return [mix(0), mix(1), mix(2), Math.round(alpha * 255)] as const;
  });
}
