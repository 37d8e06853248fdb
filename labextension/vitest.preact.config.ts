// The components once more, by what a widget brings along where there is no JupyterLab.

import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: {
    alias: {
      react: "preact/compat",
      "react-dom": "preact/compat",
      "react/jsx-runtime": "preact/jsx-runtime",
      "react/jsx-dev-runtime": "preact/jsx-dev-runtime",
      "@testing-library/react": "@testing-library/preact",
    },
  },
  test: {
    environment: "jsdom",
    include: ["tests/components/**/*.test.tsx"],
    // Their events and focus are simulated in ways that only React follows.
    exclude: ["tests/components/{Containers,JobsSidebar,form/Panel}.test.tsx"],
    setupFiles: ["tests/setup.ts"],
    // Else it would import React itself.
    server: { deps: { inline: ["@tanstack/react-virtual"] } },
  },
});
