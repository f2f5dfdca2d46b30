// @vitest-environment jsdom
import { act, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, test } from "vitest";
import { FeedBanner } from "@/features/feed/FeedBanner";
import { SymbolSwitch } from "@/features/header/SymbolSwitch";
import { MarketPanel } from "@/features/market/MarketPanel";
import { parseMessage } from "@/lib/live/messages";
import { INITIAL, useLive, type LiveView } from "@/lib/live/session";
import { EMPTY, fold, PRICES_LENGTH } from "@/lib/live/state";
import { neighbour } from "@/lib/live/symbols";
import { market, snapshot, status, summary } from "./made";

const live = (view: Partial<LiveView>) => act(() => useLive.setState(view));
const row = (symbol: string) => screen.getByRole("row", { name: new RegExp(`^${symbol}`) });
const TWO = [summary("BTCUSDT", 60), summary("ETHUSDT", 60)] as const;

beforeEach(() => {
  useLive.setState(INITIAL, true);
  window.history.replaceState(null, "", "/");
});

describe("the market's channel", () => {
  test("is read, and refused without its lines", () => {
    expect(parseMessage(JSON.stringify({ type: "market", sequence: 3, data: market(...TWO) }))).toMatchObject({ type: "market" });
    expect(parseMessage(JSON.stringify({ type: "market", sequence: 3, data: { ts: 1 } }))).toBeNull();
    expect(parseMessage(JSON.stringify({ ...snapshot(), market: undefined }))).toBeNull();
  });

  test("replaces the table and keeps two minutes of prices, each second once", () => {
    const told = (at: number) => ({ type: "market", sequence: at, data: market(summary("BTCUSDT", at, { price: at })) }) as const;
    const seconds = Array.from({ length: PRICES_LENGTH + 5 }, (_, i) => i + 1);
    const state = seconds.reduce((s, at) => fold(s, told(at), 0), EMPTY);
    const again = fold(state, { ...told(PRICES_LENGTH + 5), sequence: 999 }, 0);
    expect(state.market?.summaries[0]?.price).toBe(PRICES_LENGTH + 5);
    expect(again.prices.BTCUSDT).toEqual(seconds.slice(-PRICES_LENGTH));
  });

  test("an older table changes nothing", () => {
    const newest = fold(EMPTY, { type: "market", sequence: 7, data: market(...TWO) }, 0);
    expect(fold(newest, { type: "market", sequence: 6, data: market() }, 0)).toBe(newest);
  });
});

describe("the table of markets", () => {
  test("shows every symbol with its numbers, and marks the one shown", () => {
    render(<MarketPanel symbol="ETHUSDT" />);
    live({ market: market(summary("BTCUSDT", 60), summary("ETHUSDT", 60, { price: 3_412.5, average_1m: 3_400 })), status: status(60) });
    expect(row("ETHUSDT")).toHaveTextContent("3,412.50");
    expect(row("ETHUSDT")).toHaveTextContent("3,400.00");
    const texts = within(row("BTCUSDT")).getAllByRole("cell").map((cell) => cell.textContent);
    expect(texts.slice(3)).toEqual(["0.000 %", "+0.10 %", "−0.20 %", "— warmup", "4.00", "5.00", "1.2M", "live"]);
    expect(screen.getAllByRole("link", { current: "page" }).map((link) => link.textContent)).toEqual(["ETHUSDT"]);
  });

  test("says of each symbol by itself when it is old", () => {
    render(<MarketPanel symbol="BTCUSDT" />);
    live({ market: market(summary("BTCUSDT", 60), summary("ETHUSDT", 40)), status: status(61) });
    expect(row("BTCUSDT")).toHaveTextContent("live");
    expect(row("ETHUSDT")).toHaveTextContent("stale 21.0 s");
  });

  test("calls nothing live that the page says is silent or not connected", () => {
    render(<MarketPanel symbol="BTCUSDT" />);
    live({ feed: "stale", market: market(...TWO), status: status(64) });
    expect(row("BTCUSDT")).toHaveTextContent("stale 4.0 s");
    expect(row("ETHUSDT")).toHaveTextContent("live");
    for (const feed of ["disconnected", "reconnecting"] as const) {
      live({ feed: "live" });
      expect(row("ETHUSDT")).toHaveTextContent("live");
      live({ feed });
      expect(row("ETHUSDT")).toHaveTextContent("stale 4.0 s");
    }
  });

  test("marks a move of more than 2 % in 10 s, unless the line is old", () => {
    const moved = { alert_since: 1, moved: true, move_10s: 0.024 };
    render(<MarketPanel symbol="BTCUSDT" />);
    live({ market: market(summary("BTCUSDT", 60, moved), summary("ETHUSDT", 40, moved)), status: status(61) });
    expect(row("BTCUSDT")).toHaveTextContent("moved > 2 % in 10 s");
    expect(row("ETHUSDT")).not.toHaveTextContent("moved");
  });

  test("before the first second says so", () => {
    render(<MarketPanel symbol="BTCUSDT" />);
    expect(screen.getByText(/Waiting for the first second of any symbol/)).toBeVisible();
  });
});

describe("top movers", () => {
  test("are those of the window that is chosen", async () => {
    render(<MarketPanel symbol="BTCUSDT" />);
    const movers = [{ window: "1h" as const, up: [], down: ["ETHUSDT"] }, { window: "1m" as const, up: ["BTCUSDT"], down: [] }];
    live({ market: { ...market(...TWO), movers } });
    const part = within(screen.getByRole("region", { name: "Top movers" }));
    expect(part.getByRole("listitem")).toHaveTextContent("ETHUSDT−0.20 %");
    await userEvent.click(part.getByRole("button", { name: "1m" }));
    expect(part.getByRole("listitem")).toHaveTextContent("BTCUSDT+0.10 %");
  });
});

describe("another symbol", () => {
  test("is chosen in the header by name", async () => {
    render(<SymbolSwitch symbol="BTCUSDT" />);
    live({ market: market(...TWO) });
    await userEvent.selectOptions(screen.getByRole("combobox", { name: "Symbol" }), "ETHUSDT");
    expect(window.location.search).toBe("?symbol=ETHUSDT");
  });

  test("is shown by its link in the table, without leaving the page", async () => {
    render(<MarketPanel symbol="BTCUSDT" />);
    live({ market: market(...TWO) });
    await userEvent.click(within(row("ETHUSDT")).getByRole("link"));
    expect(window.location.search).toBe("?symbol=ETHUSDT");
  });

  test("is a key away, around the end", () => {
    live({ market: market(...TWO) });
    expect(neighbour(1)).toBe("ETHUSDT");
    window.history.replaceState(null, "", "?symbol=ETHUSDT");
    expect([neighbour(1), neighbour(-1)]).toEqual(["BTCUSDT", "BTCUSDT"]);
  });

  test("that nobody follows is told so", () => {
    render(<FeedBanner symbol="XRPUSDT" />);
    live({ feed: "disconnected", market: market(...TWO) });
    expect(screen.getByRole("status")).toHaveTextContent("XRPUSDT is not followed here");
  });
});
