// Page: what the browser suite needs to look at the dashboard.

import { execSync } from "node:child_process";
import { expect, type Page } from "@playwright/test";

export const SHOTS = "test-results/shots";

/** Open the page and wait until the market is on it. */
export async function openLive(page: Page, path = "/"): Promise<void> {
  await page.goto(path);
  await expectFeed(page, "live");
  await expect(page.getByTestId("price")).toHaveText(/\d/);
}

export async function expectFeed(page: Page, feed: string, timeout = 60_000): Promise<void> {
  await expect(page.locator("[data-feed]")).toHaveAttribute("data-feed", feed, { timeout });
}

/** Colours of the price pane, sampled: one number a pixel. */
export function panePixels(page: Page): Promise<number[]> {
  return page.evaluate(() => {
    const canvases = [...document.querySelectorAll<HTMLCanvasElement>("[data-testid=chart] canvas")];
    const pane = canvases.reduce((a, b) => (b.width * b.height > a.width * a.height ? b : a));
    const { data } = pane.getContext("2d")!.getImageData(0, 0, pane.width, pane.height);
    const pixels: number[] = [];
    for (let i = 0; i < data.length; i += 4 * 97) pixels.push((data[i]! << 16) | (data[i + 1]! << 8) | data[i + 2]!);
    return pixels;
  });
}

/** Run a shell command that the suite was given by environment. */
export function run(command: string): void {
  execSync(command, { stdio: "inherit", shell: "/bin/sh" });
}
