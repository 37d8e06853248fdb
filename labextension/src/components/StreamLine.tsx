import type { ReactNode } from "react";

import { formatTime, sentence } from "../rules/words";
import type { Translator } from "../rules/translator";
import type { StreamStatus } from "../service/stream";
import { SignIn } from "./SignIn";
import { useTranslator } from "./context";

/** Whether what is shown is kept up to date, and if not, why. */
export function formatStatus({ state, reason, since }: StreamStatus, tr: Translator): string {
  switch (state) {
    case "connecting":
      return reason ? tr.__("Connecting … %1", reason) : tr.__("Connecting …");
    case "live":
      return tr.__("Live");
    case "asking":
      return tr.__("Asked for now and then: this service tells of no changes by itself");
    case "offline":
      return tr.__("Offline since %1. %2 Trying again.", formatTime(since), sentence(reason));
    case "signed-out":
      return tr.__("Not live: you are signed out of Jupyter.");
    case "absent":
      return tr.__("This Jupyter server has no CTS.");
  }
}

/** In one word, for where there is no room. */
function formatBriefly({ state, since }: StreamStatus, tr: Translator): string {
  switch (state) {
    case "connecting":
      return tr.__("connecting");
    case "live":
      return tr.__("live");
    case "asking":
      return tr.__("asked now and then");
    case "offline":
      return tr.__("offline since %1", formatTime(since));
    case "signed-out":
      return tr.__("signed out");
    case "absent":
      return tr.__("no CTS");
  }
}

interface Props {
  status: StreamStatus;
  isShort?: boolean;
}

export function StreamLine({ status, isShort = false }: Props): ReactNode {
  const tr = useTranslator();
  const text = formatStatus(status, tr);
  return (
    <div className="cts-stream" data-stream={status.state} title={isShort ? text : undefined}>
      {isShort ? formatBriefly(status, tr) : text}
      {!isShort && status.state === "signed-out" && (
        <>
          {" "}
          <SignIn />
        </>
      )}
    </div>
  );
}
