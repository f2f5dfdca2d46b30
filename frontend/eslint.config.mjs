// ESLint: Next's rules, and the one direction imports may flow: app → features → components, lib.
import next from "eslint-config-next/core-web-vitals";
import typescript from "eslint-config-next/typescript";

const zone = (target, from, message) => ({ target: `./${target}`, from: from.map((path) => `./${path}`), message });

const config = [
  ...next,
  ...typescript,
  { ignores: [".next/**", "node_modules/**", "test-results/**", "playwright-report/**", "lib/*.gen.ts", "next-env.d.ts"] },
  {
    rules: {
      "import/no-restricted-paths": [
        "error",
        {
          zones: [
            zone("lib", ["app", "features", "components"], "lib knows nobody above it"),
            zone("components", ["app", "features"], "components know only lib"),
            zone("features", ["app"], "features do not know the pages that hold them"),
          ],
        },
      ],
      "import/no-cycle": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      "no-console": "error",
    },
  },
  { files: ["scripts/**", "dev/**"], rules: { "no-console": "off" } },
];

export default config;
