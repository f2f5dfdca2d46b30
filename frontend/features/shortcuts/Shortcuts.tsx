"use client";
// Shortcuts: single keys, their help, and the way to turn them off.

import { useEffect, useRef } from "react";
import { Icon } from "@/components/Icon";
import { useView } from "@/lib/view";
import { CHART_KEYS, SHORTCUTS } from "./keys";

export function Shortcuts() {
  const areKeysOn = useView((view) => view.areKeysOn);
  useEffect(() => {
    if (!areKeysOn) return;
    window.addEventListener("keydown", runShortcut);
    return () => window.removeEventListener("keydown", runShortcut);
  }, [areKeysOn]);
  return <Help />;
}

function runShortcut(event: KeyboardEvent): void {
  const isTyping = event.target instanceof HTMLElement && event.target.closest("input, textarea, select, dialog") !== null;
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  SHORTCUTS.find(({ key }) => key === event.key)?.run();
}

function Help() {
  const dialog = useRef<HTMLDialogElement>(null);
  const isOpen = useView((view) => view.isHelpOpen);
  const close = () => useView.setState({ isHelpOpen: false });
  useEffect(() => {
    if (isOpen) dialog.current?.showModal();
    else dialog.current?.close();
  }, [isOpen]);
  return (
    <dialog ref={dialog} onClose={close} aria-labelledby="help-title" className="m-auto w-[min(26rem,92vw)] rounded-xl border border-line bg-panel p-5 text-ink backdrop:bg-black/50">
      <div className="mb-3 flex items-center justify-between">
        <h2 id="help-title" className="text-base font-semibold">Keyboard shortcuts</h2>
        <button type="button" onClick={close} aria-label="Close" className="grid size-8 place-items-center rounded-lg text-muted hover:bg-raised">
          <Icon name="close" />
        </button>
      </div>
      <KeyList title="Anywhere" keys={SHORTCUTS} />
      <KeyList title="In the chart" keys={CHART_KEYS} />
      <KeysSwitch />
    </dialog>
  );
}

function KeyList({ title, keys }: { title: string; keys: readonly { key: string; does: string }[] }) {
  return (
    <>
      <h3 className="mt-3 mb-1.5 text-xs font-semibold text-muted">{title}</h3>
      <dl className="grid grid-cols-[4.5rem_1fr] gap-y-1.5 text-sm">
        {keys.map(({ key, does }) => (
          <div key={key} className="contents">
            <dt>
              <kbd className="num rounded border border-control px-1.5 py-0.5 text-xs">{key}</kbd>
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}

function KeysSwitch() {
  const areKeysOn = useView((view) => view.areKeysOn);
  return (
    <label className="mt-4 flex items-center gap-2 border-t border-line pt-3 text-sm">
      <input type="checkbox" checked={areKeysOn} onChange={(event) => useView.setState({ areKeysOn: event.target.checked })} className="size-4 accent-accent" />
      Single-key shortcuts
    </label>
  );
}
