import { type ReactNode, useState } from "react";

import type { Submission } from "../../api/types";
import { LANGUAGES, type Language, formatCode } from "../../rules/code";
import type { Translator } from "../../rules/translator";
import { CopyButton } from "../CopyButton";
import { useTranslator } from "../context";

function nameLanguage(language: Language, tr: Translator): string {
  const names: Record<Language, string> = {
    yaml: tr.__("a cell of a notebook"),
    python: tr.__("Python"),
    curl: tr.__("curl"),
  };
  return names[language];
}

interface Props {
  submission: () => Submission;
  /** Where jobs are submitted; null where no curl gets. */
  url: string | null;
}

/** A submission as code, to look at and to copy. */
export function CodeMenu({ submission, url }: Props): ReactNode {
  const tr = useTranslator();
  const [language, setLanguage] = useState<Language | "">("");
  const languages = LANGUAGES.filter((one) => one !== "curl" || url !== null);
  const code = language && formatCode(submission(), language, url ?? "");
  return (
    <div className="cts-code">
      <div className="cts-line">
        <select
          aria-label={tr.__("Show as code")}
          value={language}
          onChange={(event) => {
            setLanguage(event.currentTarget.value as Language | "");
          }}
        >
          <option value="">{tr.__("As code …")}</option>
          {languages.map((one) => (
            <option key={one} value={one}>
              {tr.__("As %1", nameLanguage(one, tr))}
            </option>
          ))}
        </select>
        {code && <CopyButton text={code} label={tr.__("Copy the code")} />}
      </div>
      {code && (
        <pre role="region" tabIndex={0} aria-label={tr.__("Code")}>
          {code}
        </pre>
      )}
    </div>
  );
}
