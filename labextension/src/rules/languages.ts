// What a submission is written as.

import type { Translator } from "./translator";

export type Language = "yaml" | "python" | "curl";
export const LANGUAGES: readonly Language[] = ["yaml", "python", "curl"];

/** The languages of a page in which `url` is where jobs are submitted; null where no curl gets. */
export function languagesFor(url: string | null): readonly Language[] {
  return LANGUAGES.filter((one) => one !== "curl" || url !== null);
}

/** The name of a language, after "As". */
export function nameLanguage(language: Language, tr: Translator): string {
  const names: Record<Language, string> = {
    yaml: tr.__("a %%%%cts submit cell"),
    python: tr.__("Python"),
    curl: tr.__("curl"),
  };
  return names[language];
}
