import type { ReactNode } from "react";

import type { JobPreview } from "../api/types";
import { formatCount, hasEnded, number } from "../rules/words";
import type { Queue } from "../store/queue";
import { useLoad, useTranslator } from "./context";

interface Props {
  queue: Queue;
  jobs: readonly JobPreview[];
}

/** What waits and runs at each site of live jobs, of everybody. */
export function SiteLoads({ queue, jobs }: Props): ReactNode {
  const live = jobs.filter(({ state }) => !hasEnded(state));
  const sites = new Set(live.map(({ job_input: { cluster } }) => cluster));
  return [...sites].sort().map((site) => <Line key={site} queue={queue} site={site} />);
}

function Line({ queue, site }: { queue: Queue; site: string }): ReactNode {
  const tr = useTranslator();
  const load = useLoad(queue, site);
  if (!load) return null;
  const { waiting, running, cpus_free: free } = load;
  const text = tr.__("%1: %2 waiting, %3 running", site, number(waiting), number(running));
  return (
    <p className="cts-faint">
      {free === undefined ? text : tr.__("%1, %2 free", text, formatCount(free, "cpu", tr))}
    </p>
  );
}
