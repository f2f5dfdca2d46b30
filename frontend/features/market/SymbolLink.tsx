"use client";
// Symbol link: shows another instrument without loading the page again; as a link it opens in a new tab too.

import type { MouseEvent } from "react";
import { showSymbol, symbolHref } from "@/lib/symbol";

export function SymbolLink({ symbol, isShown = false }: { symbol: string; isShown?: boolean }) {
  const follow = (event: MouseEvent) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    showSymbol(symbol);
  };
  return (
    <a
      href={symbolHref(symbol)}
      onClick={follow}
      aria-current={isShown ? "page" : undefined}
      className="num inline-flex min-h-7 items-center border-l-2 border-transparent pl-1.5 underline-offset-4 hover:underline aria-[current=page]:border-accent aria-[current=page]:text-accent"
    >
      {symbol}
    </a>
  );
}
