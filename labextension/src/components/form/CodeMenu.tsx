import { type ReactNode, useState } from "react";

import type { Submission } from "../../api/types";
import { formatCode } from "../../rules/code";
import { type Language, languagesFor, nameLanguage } from "../../rules/languages";
import { CopyButton } from "../CopyButton";
import { useTranslator } from "../context";

interface Props {
  submission: () => Submission;
  /** Where jobs are submitted; null where no curl gets. */
  url: string | null;
}

/** A submission as code, to look at and to copy. */
export function CodeMenu({ submission, url }: Props): ReactNode {
  const tr = useTranslator();
  const [language, setLanguage] = useState<Language | "">("");
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
          {languagesFor(url).map((one) => (
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
