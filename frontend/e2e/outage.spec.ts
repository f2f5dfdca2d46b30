import AxeBuilder from "@axe-core/playwright";
import { expect, test } from "@playwright/test";
import { expectFeed, openLive, run, SHOTS } from "./page";

const stop = process.env.CANDLEWICK_EXCHANGE_STOP_CMD;
const start = process.env.CANDLEWICK_EXCHANGE_START_CMD;

test("a silent market is shown as stale within five seconds, and comes back by itself", async ({ page }) => {
  test.skip(!stop || !start, "CANDLEWICK_EXCHANGE_STOP_CMD and CANDLEWICK_EXCHANGE_START_CMD are not set");
  test.setTimeout(180_000);
  await openLive(page);
  try {
    run(stop!);
    const stopped = Date.now();
    // Asked at every frame: an assertion that retries looks twice a second.
    const stale = await page.waitForFunction(
      () => document.querySelector('[data-feed="stale"]') && Date.now(), null, { polling: "raf", timeout: 10_000 },
    );
    expect((await stale.jsonValue())! - stopped).toBeLessThanOrEqual(5_000);
    await expect(page.getByRole("status")).toContainText("Stale");
    await expect(page.getByTestId("connection")).toContainText("Stale");
    await expect(page.getByTestId("market-BTCUSDT")).toHaveAttribute("data-state", "late", { timeout: 1_000 });
    await page.waitForTimeout(600);
    await page.screenshot({ path: `${SHOTS}/stale.png` });
    const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa"]).analyze();
    expect(violations.map(({ id }) => id)).toEqual([]);
  } finally {
    run(start!);
  }
  await expectFeed(page, "live", 120_000);
  await expect(page.getByRole("status")).toBeEmpty();
});

test("a lost connection is shown, and resumed from a new snapshot", async ({ page }) => {
  let isBroken = false;
  let snapshots = 0;
  let drop = () => {};
  await page.routeWebSocket(/\/live/, (socket) => {
    if (isBroken) return void socket.close();
    const service = socket.connectToServer();
    service.onMessage((message) => {
      if (String(message).startsWith('{"type":"snapshot"')) snapshots += 1;
      socket.send(message);
    });
    drop = () => void socket.close();
  });
  await openLive(page);
  isBroken = true;
  drop();
  await expect(page.locator("[data-feed]")).toHaveAttribute("data-feed", /disconnected|reconnecting/);
  await expect(page.getByRole("status")).toContainText(/Disconnected|Reconnecting/);
  await page.screenshot({ path: `${SHOTS}/disconnected.png` });
  isBroken = false;
  await expectFeed(page, "live");
  expect(snapshots).toBe(2);
});
