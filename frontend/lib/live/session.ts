// Session: the page's one connection, its store and its series.
//
// Bars and books reach the chart as they come; React sees the newest state eight times a second, whatever the rate.

import { create } from "zustand";
import { feedOf, type Evidence, type Feed, type Socket } from "./freshness";
import { isMarket, parseMessage, type LiveMessage } from "./messages";
import { RateMeter } from "./rate";
import type { MarketSeries } from "./series";
import { connect } from "./socket";
import { EMPTY, fold, isOld, type LiveState } from "./state";
import { ageMs } from "./venueClock";

const FLUSH_MS = 125;

export interface LiveView extends LiveState {
  socket: Socket;
  feed: Feed;
  /** Local clock, ms: when the next attempt is due; null while there is none. */
  retryAt: number | null;
  messagesPerSecond: number;
  /** Frames that were not messages of the contract. */
  refused: number;
  /** Local clock, ms, as of the last flush. */
  now: number;
}

export const INITIAL: LiveView = {
  ...EMPTY,
  socket: "connecting",
  feed: "connecting",
  retryAt: null,
  messagesPerSecond: 0,
  refused: 0,
  now: 0,
};

export const useLive = create<LiveView>()(() => INITIAL);

/** Connect `symbol`'s stream to the store and to `series`; the answer ends it. */
export function openSession(symbol: string, series: MarketSeries): () => void {
  const rate = new RateMeter();
  const { market, prices } = useLive.getState();
  let state: LiveState = { ...EMPTY, market, prices };
  let refused = 0;

  const take = (frame: string) => {
    const now = performance.now();
    rate.count(now);
    const message = parseMessage(frame);
    if (message === null) refused += 1;
    else {
      feedSeries(series, state, message);
      state = fold(state, message, now);
    }
  };

  const flush = () => {
    const now = performance.now();
    const feed = feedOf(evidenceOf(useLive.getState().socket, state, now), now);
    useLive.setState({ ...state, feed, refused, now, messagesPerSecond: rate.perSecond(now) });
  };

  const onState = (socket: Socket, retryAt: number | null) => {
    useLive.setState({ socket, retryAt });
    flush();
    if (socket === "waiting" && state.status === null) void askMarket();
  };

  // A symbol that nobody follows has no stream; the reader must still learn which there are.
  const askMarket = async () => {
    const answer: unknown = await fetch("/api/market").then(
      (response) => response.json(),
      () => null, // The service is away, which the lost socket tells already.
    );
    if (isMarket(answer)) state = { ...state, market: answer };
  };

  const live = connect(liveUrl(symbol), { onFrame: take, onState });
  const timer = setInterval(flush, FLUSH_MS);
  window.addEventListener("online", live.retryNow);
  return () => {
    window.removeEventListener("online", live.retryNow);
    clearInterval(timer);
    live.close();
    series.load([], []);
    useLive.setState(({ market, prices }) => ({ ...INITIAL, market, prices }));
  };
}

function evidenceOf(socket: Socket, { marketSeenAt, status, statusAt, bar }: LiveState, now: number): Evidence {
  return {
    socket,
    marketSeenAt,
    serviceEventAgeMs: status?.last_event_age_ms ?? null,
    priceAgeMs: ageMs(bar?.close_time, status, statusAt, now),
  };
}

function feedSeries(series: MarketSeries, state: LiveState, message: LiveMessage): void {
  if (message.type === "snapshot") series.load(message.bars, message.books);
  else if (isOld(state, message)) return;
  else if (message.type === "bar") series.pushBar(message.data);
  else if (message.type === "book") series.pushBook(message.data);
}

function liveUrl(symbol: string): string {
  const url = new URL("/live", window.location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.searchParams.set("symbol", symbol);
  return url.href;
}
