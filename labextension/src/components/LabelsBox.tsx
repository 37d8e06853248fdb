import { type ReactNode, useState } from "react";

import { faultsOfLabels } from "../rules/problems";
import { type Label, toLabelLines, toLabels } from "../rules/spec";
import { asServiceError } from "../service/errors";
import type { IService } from "../service/port";
import { Box } from "./Box";
import { Labels } from "./form/Labels";
import { FaultsContext } from "./form/fields";
import { useTranslator } from "./context";

interface Props {
  service: IService;
  /** Those that the job has. */
  labels: Readonly<Record<string, unknown>>;
  /** Rejects with ServiceError. */
  save: (labels: Record<string, string>) => Promise<void>;
  title: string;
  close: () => void;
}

/** The labels of a job, by which it is found again, to change them. */
export function LabelsBox({ service, labels, save, title, close }: Props): ReactNode {
  const tr = useTranslator();
  const [lines, setLines] = useState<readonly Label[]>(() => toLabelLines(labels));
  const [said, say] = useState("");
  const faults = faultsOfLabels(lines, tr);
  const send = async (): Promise<void> => {
    say(tr.__("Saving …"));
    try {
      await save(toLabels(lines));
      say(tr.__("Saved"));
    } catch (error) {
      say(tr.__("Not saved: %1", asServiceError(error).message));
    }
  };
  return (
    <Box title={title} close={close}>
      <FaultsContext.Provider value={faults}>
        <div className="cts-form">
          <Labels
            service={service}
            labels={lines}
            onChange={(changed) => {
              setLines(changed);
              say("");
            }}
          />
        </div>
      </FaultsContext.Provider>
      <div className="cts-controls">
        <button type="button" disabled={faults.length > 0} onClick={() => void send()}>
          {tr.__("Save")}
        </button>
        <span role="status">{said}</span>
      </div>
    </Box>
  );
}
