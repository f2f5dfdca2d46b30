// Panel: a titled surface.

import type { ReactNode } from "react";

interface PanelProps {
  id: string;
  title: string;
  /** Small facts at the right of the title. */
  aside?: ReactNode;
  className?: string;
  children: ReactNode;
}

export function Panel({ id, title, aside, className = "", children }: PanelProps) {
  return (
    <section
      id={id}
      aria-labelledby={`${id}-title`}
      className={`flex min-w-0 flex-col rounded-xl border border-line bg-panel ${className}`}
    >
      <header className="flex min-h-10 flex-wrap items-center justify-between gap-x-4 gap-y-1 border-b border-line px-4 py-2">
        <h2 id={`${id}-title`} className="text-xs font-semibold tracking-wider text-muted uppercase">
          {title}
        </h2>
        {aside}
      </header>
      {children}
    </section>
  );
}
