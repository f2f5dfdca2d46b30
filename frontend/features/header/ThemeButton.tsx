"use client";
// Theme button: system → dark → light.

import { Icon, type IconName } from "@/components/Icon";
import { nextTheme, type Theme } from "@/lib/theme";
import { setTheme, useView } from "@/lib/view";

const ICONS: Record<Theme, IconName> = { system: "auto", dark: "moon", light: "sun" };

export function ThemeButton() {
  const theme = useView((view) => view.theme);
  return (
    <button
      type="button"
      onClick={() => setTheme(nextTheme(theme))}
      aria-label={`Theme: ${theme}. Change to ${nextTheme(theme)}`}
      className="grid size-8 place-items-center rounded-lg border border-line text-muted hover:bg-raised"
    >
      <Icon name={ICONS[theme]} />
    </button>
  );
}
