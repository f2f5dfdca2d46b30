// Instrumentation: refuse to start with an environment that cannot work.

import { readEnv } from "@/lib/env";

export function register(): void {
  readEnv(process.env);
}
