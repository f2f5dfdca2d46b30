"use client";
// Scheme: dark or light, as the reader chose it or the system says.

import { useSyncExternalStore } from "react";
import { useView } from "./view";

const QUERY = "(prefers-color-scheme: light)";

export function useScheme(): "dark" | "light" {
  const theme = useView((view) => view.theme);
  const system = useSyncExternalStore(watchSystem, readSystem, () => "dark" as const);
  return theme === "system" ? system : theme;
}

function watchSystem(onChange: () => void): () => void {
  const query = window.matchMedia(QUERY);
  query.addEventListener("change", onChange);
  return () => query.removeEventListener("change", onChange);
}

function readSystem(): "dark" | "light" {
  return window.matchMedia(QUERY).matches ? "light" : "dark";
}
