// Theme: dark, light or the system's choice, kept in a cookie so that the first paint already has it.

export type Theme = "system" | "dark" | "light";

export const THEME_COOKIE = "candlewick-theme";

export function parseTheme(value: string | undefined): Theme {
  return value === "dark" || value === "light" ? value : "system";
}

export function nextTheme(theme: Theme): Theme {
  return theme === "system" ? "dark" : theme === "dark" ? "light" : "system";
}
