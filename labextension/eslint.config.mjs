import js from "@eslint/js";
import jsxA11y from "eslint-plugin-jsx-a11y";
import reactHooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

const TYPED = ["**/*.ts", "**/*.tsx"];
const ofLab = {
  group: ["@jupyterlab/*", "@lumino/*"],
  message: "Only src/lab knows JupyterLab, so that the same components run in other pages.",
};
const html = ["innerHTML", "outerHTML", "srcdoc", "insertAdjacentHTML"].map((property) => ({
  property,
  message: "Users' data is text, never HTML.",
}));

export default tseslint.config(
  { ignores: ["node_modules", "src/api/types.ts"] },
  js.configs.recommended,
  {
    files: TYPED,
    extends: [...tseslint.configs.strictTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/consistent-type-definitions": ["error", "interface"],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      "no-restricted-properties": ["error", ...html],
      "no-restricted-syntax": [
        "error",
        {
          selector: "JSXAttribute[name.name=/^(dangerouslySetInnerHTML|srcDoc)$/]",
          message: "Users' data is text, never HTML.",
        },
      ],
    },
  },
  {
    files: ["**/*.tsx"],
    ...jsxA11y.flatConfigs.strict,
    plugins: { ...jsxA11y.flatConfigs.strict.plugins, "react-hooks": reactHooks },
    rules: {
      ...jsxA11y.flatConfigs.strict.rules,
      ...reactHooks.configs.recommended.rules,
      // What scrolls can be scrolled by keys.
      "jsx-a11y/no-noninteractive-tabindex": ["error", { roles: ["region", "tabpanel"], tags: [] }],
    },
  },
  {
    files: ["src/**/*.ts", "src/**/*.tsx"],
    ignores: ["src/lab/**"],
    rules: { "@typescript-eslint/no-restricted-imports": ["error", { patterns: [ofLab] }] },
  },
  {
    files: ["src/widget/loader.js"],
    languageOptions: {
      globals: Object.fromEntries(["Blob", "URL", "clearTimeout", "setTimeout"].map((name) => [name, false])),
    },
  },
  {
    files: ["build_widget.mjs"],
    languageOptions: { globals: { URL: false } },
  },
  {
    files: ["rspack.config.js"],
    languageOptions: { sourceType: "commonjs", globals: { module: "writable" } },
  },
);
