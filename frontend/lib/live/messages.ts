// Messages of /live as the page reads them: the generated contract, told apart by `type`.

import type { components } from "@/lib/messages.gen";

type Schemas = components["schemas"];

export type Bar = Schemas["Bar"];
export type OrderBook = Schemas["OrderBook"];
export type FeatureRow = Schemas["FeatureRow"];
export type Prediction = Schemas["Prediction"];
export type LiveStatus = Schemas["LiveStatus"];
export type Market = Schemas["Market"];
export type MarketSummary = Schemas["MarketSummary"];
export type ChangeWindow = Schemas["Movers"]["window"];
export type LiveSnapshot = Schemas["LiveSnapshot"];
export type Source = Bar["source"];
export type Channel = Schemas["LiveUpdate"]["type"];

interface Payloads {
  bar: Bar;
  book: OrderBook;
  features: FeatureRow;
  prediction: Prediction;
  status: LiveStatus;
  market: Market;
}

export type LiveUpdate = { [C in Channel]: { type: C; sequence: number; data: Payloads[C] } }[Channel];
export type LiveMessage = LiveSnapshot | LiveUpdate;

const CHANNELS: ReadonlySet<string> = new Set<Channel>(["bar", "book", "features", "prediction", "status", "market"]);

/** Read one frame; null when it is not a message of the contract. The service validates the fields, the page the envelope. */
export function parseMessage(frame: string): LiveMessage | null {
  const message = parseObject(frame);
  if (message === null) return null;
  return message.type === "snapshot" ? asSnapshot(message) : asUpdate(message);
}

function parseObject(frame: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(frame);
    return isObject(value) ? value : null;
  } catch {
    // A frame that is not JSON is refused like any other and counted by the caller.
    return null;
  }
}

function asSnapshot(message: Record<string, unknown>): LiveSnapshot | null {
  const complete =
    isObject(message.sequences) &&
    Array.isArray(message.bars) &&
    Array.isArray(message.books) &&
    isObject(message.status) &&
    isMarket(message.market);
  return complete ? (message as unknown as LiveSnapshot) : null;
}

function asUpdate(message: Record<string, unknown>): LiveUpdate | null {
  const complete =
    typeof message.type === "string" &&
    CHANNELS.has(message.type) &&
    Number.isInteger(message.sequence) &&
    isObject(message.data) &&
    (message.type === "market" ? isMarket(message.data) : typeof message.data.symbol === "string");
  return complete ? (message as unknown as LiveUpdate) : null;
}

export function isMarket(value: unknown): value is Market {
  return isObject(value) && Array.isArray(value.summaries) && Array.isArray(value.movers);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
