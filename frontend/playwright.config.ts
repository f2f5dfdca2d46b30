import { defineConfig } from "@playwright/test";

// The browser suite looks at a page that somebody else started: `make test-e2e` the whole stack, `npm run e2e:feed` the
// development feed. One worker, because the suite stops and starts the one market that all tests watch.
export default defineConfig({
  testDir: "e2e",
  outputDir: "test-results/runs",
  workers: 1,
  retries: 0,
  timeout: 90_000,
  expect: { timeout: 20_000 },
  reporter: [["list"]],
  use: {
    baseURL: process.env.CANDLEWICK_PAGE_URL ?? "http://127.0.0.1:13000",
    viewport: { width: 1440, height: 900 },
    colorScheme: "dark",
    launchOptions: {
      executablePath: process.env.CHROMIUM_PATH ?? "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    },
  },
});
