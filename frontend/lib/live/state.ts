// Live state: the newest word of every channel, folded from messages by a pure function.

import type { Bar, Channel, FeatureRow, LiveMessage, LiveSnapshot, LiveStatus, LiveUpdate, Market, OrderBook, Prediction } from "./messages";

/** Predictions kept for the small trails in the forecast panel: five minutes at one a second. */
export const TRAIL_LENGTH = 300;
/** Prices kept a symbol for the small trails in the table of markets: two minutes. */
export const PRICES_LENGTH = 120;

export interface TrailPoint {
  ts: number;
  risk: number | null;
  volatility: number | null;
}

export interface LiveState {
  bar: Bar | null;
  /** Sign of the last change of price; it stays until the next change. */
  move: -1 | 0 | 1;
  book: OrderBook | null;
  features: FeatureRow | null;
  prediction: Prediction | null;
  trail: readonly TrailPoint[];
  status: LiveStatus | null;
  /** Every followed symbol; it outlives a change of the symbol shown. */
  market: Market | null;
  prices: Readonly<Record<string, readonly number[]>>;
  /** Local clock, ms: when `status` came. */
  statusAt: number;
  marketSeenAt: number | null;
  sequences: Partial<Record<Channel, number>>;
}

export const EMPTY: LiveState = {
  bar: null,
  move: 0,
  book: null,
  features: null,
  prediction: null,
  trail: [],
  status: null,
  market: null,
  prices: {},
  statusAt: 0,
  marketSeenAt: null,
  sequences: {},
};

/** Fold one message in. `now` is the local clock in ms. A repeated or older sequence changes nothing. */
export function fold(state: LiveState, message: LiveMessage, now: number): LiveState {
  if (message.type === "snapshot") return { ...fromSnapshot(message, now), ...withMarket(state, message.market) };
  if (isOld(state, message)) return state;
  const sequences = { ...state.sequences, [message.type]: message.sequence };
  return { ...state, sequences, ...change(state, message, now) };
}

/** Jumps are fine: the service moves a slow reader to the newest. Going back is not news. */
export function isOld(state: LiveState, update: LiveUpdate): boolean {
  const last = state.sequences[update.type];
  return last !== undefined && update.sequence <= last;
}

function fromSnapshot(snapshot: LiveSnapshot, now: number): Omit<LiveState, "market" | "prices"> {
  const last = snapshot.bars.at(-1) ?? null;
  const before = snapshot.bars.findLast((bar) => bar.close !== last?.close);
  return {
    bar: last,
    move: last && before ? sign(last.close - before.close) : 0,
    book: snapshot.books.at(-1) ?? null,
    features: snapshot.features,
    prediction: snapshot.prediction,
    trail: snapshot.prediction ? [trailPoint(snapshot.prediction)] : [],
    status: snapshot.status,
    statusAt: now,
    marketSeenAt: now,
    sequences: { ...snapshot.sequences },
  };
}

function change(state: LiveState, update: LiveUpdate, now: number): Partial<LiveState> {
  switch (update.type) {
    case "bar":
      return withBar(state, update.data, now);
    case "book":
      return { book: update.data, ...(isNewBook(state.book, update.data) && { marketSeenAt: now }) };
    case "features":
      return { features: update.data };
    case "prediction":
      return { prediction: update.data, trail: [...state.trail, trailPoint(update.data)].slice(-TRAIL_LENGTH) };
    case "status":
      return { status: update.data, statusAt: now };
    case "market":
      return withMarket(state, update.data);
  }
}

function withMarket(state: LiveState, market: Market): Pick<LiveState, "market" | "prices"> {
  const before = new Map(state.market?.summaries.map((line) => [line.symbol, line.ts_event]));
  const prices = market.summaries.map((line) => {
    const known = state.prices[line.symbol] ?? [];
    return [line.symbol, before.get(line.symbol) === line.ts_event ? known : [...known, line.price].slice(-PRICES_LENGTH)];
  });
  return { market, prices: Object.fromEntries(prices) as LiveState["prices"] };
}

function withBar(state: LiveState, bar: Bar, now: number): Partial<LiveState> {
  if (bar.interval_s !== 1 || (state.bar && bar.close_time < state.bar.close_time)) return {};
  const move = state.bar && bar.close !== state.bar.close ? sign(bar.close - state.bar.close) : state.move;
  return { bar, move, ...(isMarketEvent(bar) && { marketSeenAt: now }) };
}

// A silent venue still gets its seconds sealed, with no trades in them: such a bar proves nothing.
function isMarketEvent(bar: Bar): boolean {
  return bar.trades > 0;
}

function isNewBook(last: OrderBook | null, book: OrderBook): boolean {
  return last === null || last.last_update_id !== book.last_update_id || last.session !== book.session;
}

function trailPoint(prediction: Prediction): TrailPoint {
  return { ts: prediction.ts_event, risk: prediction.risk_score, volatility: prediction.volatility_15m };
}

function sign(value: number): -1 | 0 | 1 {
  return value > 0 ? 1 : value < 0 ? -1 : 0;
}
