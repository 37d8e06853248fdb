import { expect, it } from "vitest";

import type { Submission } from "../../src/api/types";
import { formatCode } from "../../src/rules/code";
import { LANGUAGES } from "../../src/rules/languages";
import table from "../code.json";

// Python reads the same table, and holds that each of these submits what it was made of.
it.each(table)("writes a submission as code (%#)", ({ submission, ...codes }) => {
  const written = LANGUAGES.map((language) =>
    formatCode(submission as Submission, language, "https://lab.test/cts/jobs"),
  );
  expect(written).toEqual(LANGUAGES.map((language) => codes[language]));
});
