import type { ReactNode } from "react";

import type { ChecksumState, ComputationState } from "../../api/types";
import type { Translator } from "../../rules/translator";
import { useTranslator } from "../context";

interface Props {
  checksum: ChecksumState | undefined;
  /** How far it is, where it is computed. */
  computed: ComputationState | undefined;
}

/** Whether a file has a checksum: a sign to see, and words to hear. */
export function ChecksumMark({ checksum, computed }: Props): ReactNode {
  const tr = useTranslator();
  const [sign, words] = describe(checksum, computed, tr);
  return (
    <span className="cts-checksum" data-sign={sign} title={words}>
      <span className="cts-unseen">{words}</span>
    </span>
  );
}

function describe(
  checksum: ChecksumState | undefined,
  computed: ComputationState | undefined,
  tr: Translator,
): [string, string] {
  if (checksum === "stored" || computed === "done") return ["✓", tr.__("has a checksum")];
  if (computed === "waiting") return ["◌", tr.__("its checksum is being computed")];
  if (computed === "failed") return ["✕", tr.__("its checksum could not be computed")];
  if (checksum === "mismatch") return ["✕", tr.__("its checksum does not match its content")];
  if (checksum === "missing") return ["–", tr.__("has no checksum")];
  return ["", tr.__("was not looked at yet")];
}
