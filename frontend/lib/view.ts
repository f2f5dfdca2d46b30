// View: what the reader chose.

import { create } from "zustand";
import { THEME_COOKIE, type Theme } from "./theme";

export const INTERVALS = [1, 5, 60] as const;
export type Interval = (typeof INTERVALS)[number];

const YEAR_S = 31_536_000;

interface View {
  interval: Interval;
  isHeatShown: boolean;
  theme: Theme;
  /** Single keys do something; may be turned off (WCAG 2.1.4). */
  areKeysOn: boolean;
  isHelpOpen: boolean;
}

export const useView = create<View>()(() => ({
  interval: 1,
  isHeatShown: true,
  theme: "system",
  areKeysOn: true,
  isHelpOpen: false,
}));

export function setTheme(theme: Theme): void {
  useView.setState({ theme });
  document.cookie = `${THEME_COOKIE}=${theme}; path=/; max-age=${YEAR_S}; samesite=strict`;
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function toggleHeat(): void {
  useView.setState(({ isHeatShown }) => ({ isHeatShown: !isHeatShown }));
}
