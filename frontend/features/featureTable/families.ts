// Families: the feature declarations grouped for the eye, and values in their units.

import { FEATURES } from "@/lib/features.gen";
import { fixed, quantity, signed } from "@/lib/format";

export interface Declaration {
  name: string;
  family: string;
  unit: string;
  formula: string;
}

export interface Family {
  name: string;
  features: Declaration[];
}

/** Families and their features, each in the order of the contract. */
export function families(declarations: readonly Declaration[] = FEATURES): Family[] {
  const names = [...new Set(declarations.map((declaration) => declaration.family))];
  return names.map((name) => ({ name, features: declarations.filter((declaration) => declaration.family === name) }));
}

const BPS = 1e4;

/** How a unit of the contract is shown: returns and volatilities in basis points, the rest as it is. */
const SHOWN: Record<string, { unit: string; text: (value: number) => string }> = {
  "log return": { unit: "bps", text: (value) => signed(value * BPS, 2) },
  "per sqrt minute": { unit: "bps/√min", text: (value) => fixed(value * BPS, 2) },
  bps: { unit: "bps", text: (value) => fixed(value, 4) },
  ratio: { unit: "×", text: quantity },
  "ratio in [-1, 1]": { unit: "−1…1", text: (value) => signed(value, 3) },
  "score in [0, 1]": { unit: "0…1", text: (value) => fixed(value, 3) },
  deviations: { unit: "σ", text: (value) => signed(value, 2) },
  sine: { unit: "−1…1", text: (value) => signed(value, 3) },
  cosine: { unit: "−1…1", text: (value) => signed(value, 3) },
};

export function shownUnit(unit: string): string {
  return SHOWN[unit]?.unit ?? unit;
}

export function shownValue(value: number, unit: string): string {
  return (SHOWN[unit]?.text ?? quantity)(value);
}
