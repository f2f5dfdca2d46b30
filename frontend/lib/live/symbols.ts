// Symbols: which instruments are followed, as the table of markets tells.

import { parseSymbol } from "@/lib/symbol";
import { useLive } from "./session";

/** The followed symbols and the one shown, in alphabetical order. */
export function useSymbols(shown: string): string[] {
  const followed = useLive((live) => live.market?.summaries.map((line) => line.symbol).join(" ") ?? "");
  return [...new Set([...followed.split(" ").filter(Boolean), shown])].sort();
}

/** The followed symbol so many places after the one shown, around the end. */
export function neighbour(step: number): string {
  const shown = parseSymbol(new URL(window.location.href).searchParams.get("symbol"));
  const followed = useLive.getState().market?.summaries.map((line) => line.symbol) ?? [];
  if (followed.length === 0) return shown;
  const place = followed.indexOf(shown);
  return followed[(place + step + followed.length) % followed.length]!;
}
