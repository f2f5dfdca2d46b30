// Keys: every shortcut of the page, stated once for the handler and the help.

import { neighbour } from "@/lib/live/symbols";
import { showSymbol } from "@/lib/symbol";
import { nextTheme } from "@/lib/theme";
import { setTheme, toggleHeat, useView } from "@/lib/view";

export interface Shortcut {
  key: string;
  does: string;
  run: () => void;
}

export const SHORTCUTS: readonly Shortcut[] = [
  { key: "1", does: "One-second candles", run: () => useView.setState({ interval: 1 }) },
  { key: "2", does: "Five-second candles", run: () => useView.setState({ interval: 5 }) },
  { key: "3", does: "One-minute candles", run: () => useView.setState({ interval: 60 }) },
  { key: "h", does: "Depth heat map on or off", run: toggleHeat },
  { key: "[", does: "Symbol before", run: () => showSymbol(neighbour(-1)) },
  { key: "]", does: "Next symbol", run: () => showSymbol(neighbour(1)) },
  { key: "t", does: "Next theme: system, dark, light", run: () => setTheme(nextTheme(useView.getState().theme)) },
  { key: "?", does: "This help", run: () => useView.setState({ isHelpOpen: true }) },
];

export const CHART_KEYS = [
  { key: "← →", does: "Scroll in time" },
  { key: "+ −", does: "Zoom" },
  { key: "End", does: "Back to the newest" },
] as const;
