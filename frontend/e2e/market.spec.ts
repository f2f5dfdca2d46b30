import { expect, test } from "@playwright/test";
import type { Prediction } from "../lib/live/messages";
import { fixed, percent } from "../lib/format";
import { openLive, panePixels, SHOTS } from "./page";

test("the price moves", async ({ page }) => {
  await openLive(page);
  const price = page.getByTestId("price");
  const first = await price.innerText();
  await expect.poll(() => price.innerText(), { timeout: 60_000 }).not.toBe(first);
});

test("the heat map shows depth", async ({ page }) => {
  await openLive(page);
  await page.waitForTimeout(3_000);
  const withHeat = await panePixels(page);
  await page.screenshot({ path: `${SHOTS}/dark.png` });
  await page.getByRole("button", { name: "Depth heat map" }).click();
  await page.waitForTimeout(500);
  const without = await panePixels(page);
  const changed = withHeat.filter((pixel, i) => pixel !== without[i]).length / withHeat.length;
  expect(changed).toBeGreaterThan(0.05);
  expect(new Set(withHeat).size).toBeGreaterThan(new Set(without).size + 10);
});

test("the forecast changes", async ({ page }) => {
  await openLive(page);
  const shown = async () => (await page.getByTestId(/^(volatility-|risk|confidence|share-)/).allInnerTexts()).join(" ");
  await expect(page.getByTestId("model-version")).toHaveText(/\w/);
  const first = await shown();
  await expect.poll(shown, { timeout: 60_000 }).not.toBe(first);
});

test("shown values are those of /api/latest", async ({ page }) => {
  await openLive(page);
  await expect(async () => {
    const answer = await page.request.get("/api/latest?symbol=BTCUSDT");
    expect(answer.ok()).toBe(true);
    const latest = (await answer.json()) as Prediction;
    const text = (id: string) => page.getByTestId(id).innerText();
    expect(await text("model-version")).toBe(`${latest.model} ${latest.model_version}`);
    expect(await text("volatility-15m")).toBe(fixed(latest.volatility_15m === null ? null : latest.volatility_15m * 1e4, 2));
    expect(await text("risk")).toBe(fixed(latest.risk_score, 2));
    expect(await text("confidence")).toBe(percent(latest.confidence));
    expect(await text("should-trade")).toBe(latest.should_trade ? "Yes" : "No");
    expect(await text("should-trade-15m")).toBe(latest.should_trade_15m ? "Yes" : "No");
  }).toPass({ timeout: 45_000 });
});

test("shown values are those of the WebSocket", async ({ page }) => {
  const closes = new Set<string>();
  const features = new Map<string, number>();
  page.on("websocket", (socket) =>
    socket.on("framereceived", ({ payload }) => {
      const message = JSON.parse(String(payload)) as { type: string; data?: { close?: number; values?: Record<string, number | null> } };
      if (message.type === "bar" && message.data?.close) closes.add(fixed(message.data.close, 2));
      const spread = message.type === "features" ? message.data?.values?.spread_1s : null;
      if (spread != null) features.set(fixed(spread, 4), spread);
    }),
  );
  await openLive(page);
  await expect.poll(() => closes.size, { timeout: 60_000 }).toBeGreaterThan(1);
  await expect(async () => expect(closes).toContain(await page.getByTestId("price").innerText())).toPass({ timeout: 10_000 });
  await expect(async () => {
    const row = await page.getByRole("row", { name: /spread_1s/ }).getByRole("cell").first().innerText();
    expect([...features.keys()]).toContain(row);
  }).toPass({ timeout: 20_000 });
});

test("where the data come from is said", async ({ page }) => {
  await openLive(page);
  await expect(page.getByTestId("source")).toHaveText(/LIVE|RECORDING|SIMULATED/);
  await expect(page.getByRole("region", { name: "Data", exact: true })).toContainText("Session");
});

test("the interval changes the candles, by button and by key", async ({ page }) => {
  await openLive(page);
  await page.getByRole("button", { name: "5s", exact: true }).click();
  await expect(page.getByRole("group", { name: /5s candles/ })).toBeVisible();
  await page.keyboard.press("3");
  await expect(page.getByRole("group", { name: /1m candles/ })).toBeVisible();
});
