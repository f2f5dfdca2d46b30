// Symbol: which instrument the page shows.

const SYMBOL = /^[A-Z0-9][A-Z0-9.-]{1,39}$/;
const DEFAULT = "BTCUSDT";

/** The contract's pattern; anything else is the default. */
export function parseSymbol(value: string | string[] | null | undefined): string {
  return typeof value === "string" && SYMBOL.test(value) ? value : DEFAULT;
}

export function symbolHref(symbol: string): string {
  return `?${new URLSearchParams({ symbol }).toString()}`;
}

/** Show another instrument: the address changes, and everything follows it. */
export function showSymbol(symbol: string): void {
  window.history.pushState(null, "", symbolHref(symbol));
}
