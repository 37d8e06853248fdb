// The components once more, by what a widget brings along where there is no JupyterLab.

import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: {
    alias: {
      react: "preact/compat",
      "react-dom": "preact/compat",
      "react/jsx-runtime": "preact/jsx-runtime",
      "react/jsx-dev-runtime": "preact/jsx-dev-runtime",
      "@testing-library/react": new URL("tests/preact.ts", import.meta.url).pathname,
    },
  },
  test: {
    environment: "jsdom",
    include: ["tests/components/**/*.test.tsx"],
    setupFiles: ["tests/setup.ts"],
    // Of a machine that does much else.
    testTimeout: 30_000,
    // Else it would import React itself.
    server: { deps: { inline: ["@tanstack/react-virtual"] } },
  },
});
