import { expect, test } from "@playwright/test";
import { price } from "../lib/format";
import type { Bar, Market } from "../lib/live/messages";
import { expectFeed, openLive, run, SHOTS } from "./page";

const jump = process.env.CANDLEWICK_JUMP_CMD;

async function followed(request: { get: (url: string) => Promise<{ json: () => Promise<unknown> }> }): Promise<string[]> {
  const market = (await (await request.get("/api/market")).json()) as Market;
  return market.summaries.map(({ symbol }) => symbol);
}

test("the table of markets shows every followed symbol with the service's own numbers", async ({ page }) => {
  const told = new Map<string, Set<string>>();
  page.on("websocket", (socket) =>
    socket.on("framereceived", ({ payload }) => {
      const message = JSON.parse(String(payload)) as { type: string; market?: Market; data?: Market };
      const market = message.type === "snapshot" ? message.market : message.type === "market" ? message.data : undefined;
      for (const line of market?.summaries ?? []) told.set(line.symbol, (told.get(line.symbol) ?? new Set()).add(price(line.price)));
    }),
  );
  await openLive(page);
  const symbols = await followed(page.request);
  expect(symbols.length).toBeGreaterThan(0);
  for (const symbol of symbols) {
    const cells = page.getByTestId(`market-${symbol}`).getByRole("cell");
    await expect(async () => expect([...told.get(symbol)!]).toContain((await cells.nth(1).innerText()).trim())).toPass({ timeout: 20_000 });
    await expect(page.getByTestId(`market-${symbol}`)).toHaveAttribute("data-state", /live|moved/, { timeout: 30_000 });
  }
});

test("another symbol is chosen by keyboard, and everything follows it", async ({ page }) => {
  const bars: Bar[] = [];
  page.on("websocket", (socket) =>
    socket.on("framereceived", ({ payload }) => {
      const message = JSON.parse(String(payload)) as { type: string; data?: Bar };
      if (message.type === "bar" && message.data) bars.push(message.data);
    }),
  );
  await openLive(page);
  const symbols = await followed(page.request);
  test.skip(symbols.length < 2, "the service follows one symbol");
  const other = symbols.find((symbol) => symbol !== "BTCUSDT")!;
  const choice = page.getByRole("combobox", { name: "Symbol" });
  await choice.focus();
  await choice.selectOption(other);
  await expect(page).toHaveURL(new RegExp(`symbol=${other}`));
  await expect(choice).toBeFocused();
  await expectFeed(page, "live");
  await expect(page.getByRole("group", { name: new RegExp(`Chart of ${other}`) })).toBeVisible();
  await expect(page.getByTestId(`market-${other}`).getByRole("link", { name: other })).toHaveAttribute("aria-current", "page");
  bars.length = 0;
  await expect.poll(() => bars.length, { timeout: 30_000 }).toBeGreaterThan(1);
  expect(new Set(bars.map(({ symbol }) => symbol))).toEqual(new Set([other]));
  await expect(async () => expect(bars.map(({ close }) => price(close))).toContain(await page.getByTestId("price").innerText())).toPass({ timeout: 10_000 });
  await page.screenshot({ path: `${SHOTS}/other-symbol.png` });
  await page.goBack();
  await expect(choice).toHaveValue("BTCUSDT");
  await expectFeed(page, "live");
});

test("a symbol that is not followed is told so, and another can be chosen", async ({ page }) => {
  await page.goto("/?symbol=NOBODYUSDT");
  await expect(page.getByRole("status")).toContainText("NOBODYUSDT is not followed here", { timeout: 30_000 });
  await page.getByRole("combobox", { name: "Symbol" }).selectOption("BTCUSDT");
  await expectFeed(page, "live");
});

test("a jump of the price is marked in its line", async ({ page }) => {
  test.skip(!jump, "CANDLEWICK_JUMP_CMD is not set");
  await openLive(page);
  run(jump!);
  const line = page.getByTestId("market-ETHUSDT");
  await expect(line).toHaveAttribute("data-state", "moved");
  await expect(line).toContainText("moved > 2 % in 10 s");
  await page.getByRole("region", { name: "Markets" }).screenshot({ path: `${SHOTS}/moved.png` });
});
