import AxeBuilder from "@axe-core/playwright";
import { expect, test } from "@playwright/test";
import { openLive, SHOTS } from "./page";

for (const colorScheme of ["dark", "light"] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });

    test("nothing stands against WCAG 2.2 AA", async ({ page }) => {
      await openLive(page);
      await expect(page.getByTestId("model-version")).toHaveText(/\w/);
      await page.getByRole("button", { name: "Formulas" }).click();
      const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]).analyze();
      expect(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)])).toEqual([]);
      await page.getByRole("button", { name: "Formulas" }).click();
      await page.screenshot({ path: `${SHOTS}/${colorScheme}-full.png`, fullPage: true });
    });
  });
}

test("the keyboard reaches everything", async ({ page }) => {
  await openLive(page);
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to content" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.locator("#main")).toBeFocused();
  await page.keyboard.press("?");
  const help = page.getByRole("dialog", { name: "Keyboard shortcuts" });
  await expect(help).toBeVisible();
  await page.getByRole("checkbox", { name: "Single-key shortcuts" }).uncheck();
  await page.keyboard.press("Escape");
  await expect(help).toBeHidden();
  await page.locator("#main").focus();
  await page.keyboard.press("?");
  await expect(help).toBeHidden();
});

test("the theme is kept, from the first paint on", async ({ page }) => {
  await openLive(page);
  await page.getByRole("button", { name: /^Theme: system/ }).click();
  await page.getByRole("button", { name: /^Theme: dark/ }).click();
  await page.screenshot({ path: `${SHOTS}/light.png` });
  await page.reload();
  expect(await page.evaluate(() => document.documentElement.dataset.theme)).toBe("light");
});

test.describe("a phone", () => {
  test.use({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true });

  test("shows everything without scrolling sideways", async ({ page }) => {
    await openLive(page);
    await page.waitForTimeout(2_000);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    for (const name of ["Price, volume and depth", "Forecast", "Markets", "Data", "Features"]) await expect(page.getByRole("region", { name, exact: true })).toBeVisible();
    await page.screenshot({ path: `${SHOTS}/phone.png` });
    await page.screenshot({ path: `${SHOTS}/phone-full.png`, fullPage: true });
  });
});

test("the page keeps to its own origin, and its policy is kept", async ({ page, baseURL }) => {
  const hosts = new Set<string>();
  const complaints: string[] = [];
  page.on("request", (request) => hosts.add(new URL(request.url()).host));
  page.on("websocket", (socket) => hosts.add(new URL(socket.url()).host));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  const answer = await page.goto("/");
  await openLive(page);
  await page.waitForTimeout(3_000);
  expect([...hosts]).toEqual([new URL(baseURL!).host]);
  expect(complaints).toEqual([]);
  const headers = answer!.headers();
  expect(headers["content-security-policy"]).toMatch(/script-src 'self' 'nonce-.*connect-src 'self'.*frame-ancestors 'none'/);
  expect(headers["x-content-type-options"]).toBe("nosniff");
});
