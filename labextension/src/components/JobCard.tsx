import { type ReactNode, useEffect, useRef, useState } from "react";

import type { JobPreview, Reason, ResubmissionOutput } from "../api/types";
import { fixOf } from "../rules/reasons";
import { nextOf } from "../rules/strip";
import type { Translator } from "../rules/translator";
import {
  countMoods,
  formatCount,
  formatDuration,
  formatProgress,
  formatSize,
  hasEnded,
  moodOf,
  parseDuration,
  shortId,
  shownState,
} from "../rules/words";
import { usageOf } from "../rules/usage";
import type { ServiceError } from "../service/errors";
import type { JobStore, JobView } from "../store/jobs";
import type { LogName } from "../store/log";
import { CancelButton } from "./CancelButton";
import { ContainerStrip } from "./ContainerStrip";
import { FixButton } from "./FixButton";
import { JobActions } from "./JobActions";
import type { LogTarget } from "./LogView";
import { ProgressLine } from "./ProgressLine";
import { Section, setSection } from "./Section";
import { SignIn } from "./SignIn";
import { StateMark } from "./StateMark";
import { StreamLine } from "./StreamLine";
import { Timeline } from "./Timeline";
import { UsageView } from "./UsageView";
import { WhyBox } from "./WhyBox";
import { ContainerTable, LogView, OutputTable } from "./lazy";
import { useJob, useKnows, useNow, useStatus, useTranslator, useWaiting } from "./context";

/** Longer lists of outputs are closed at first. */
const OPEN_OUTPUTS = 10;

interface Props {
  store: JobStore;
  id: string;
  /** The service's name for people. */
  service: string;
  /** "short" below a cell, and "wide" in a place of its own. */
  size?: "short" | "wide";
  /** Opens another job. */
  open?: ((id: string) => void) | undefined;
  /** Opens a form that is filled in with a job's values. */
  newJob?: ((from: string) => void) | undefined;
  /** Told whether the job could be loaded, and if not, why. */
  onLoad?: (view: Pick<JobView, "job" | "error">) => void;
}

/** A job: its state, progress, reason of failure, outputs, logs and history, as they are now. */
export function JobCard({ onLoad, ...props }: Props): ReactNode {
  const { store, id } = props;
  const view = useJob(store, id);
  const { job, error } = view;
  useEffect(() => onLoad?.({ job, error }), [job, error, onLoad]);
  return job ? <Loaded {...props} view={view} job={job} /> : null;
}

function Loaded({
  store,
  view,
  job,
  service,
  size = "short",
  open,
  newJob,
}: Omit<Props, "onLoad"> & { view: JobView; job: JobPreview }): ReactNode {
  const tr = useTranslator();
  const [refused, setRefused] = useState("");
  const { counts, containers, reasons, fix, outputs, error } = view;
  const { id, job_input: request, warnings = [] } = job;
  const isWide = size === "wide";
  const isLive = !hasEnded(job.state);
  const now = (): number => store.now();
  const section = (name: string): string => `${id} ${size} ${name}`;
  const [chosen, choose] = useState<number | null>(null);
  const [target, setTarget] = useState<LogTarget | null>(null);
  const logs = useRef<HTMLDivElement>(null);
  const showLog = (container: number, name: LogName): void => {
    setTarget({ container, name });
    setSection(section("logs"), true);
    // Once it is in the page.
    setTimeout(() => logs.current?.scrollIntoView({ block: "nearest" }));
  };
  const usage = usageOf(job, containers, tr);
  const state = shownState(job.state, counts);
  const waiting = useWaiting(store.queue, { ...job, containers: counts }, tr);
  const total = request.num_containers;
  const path = `jobs/${encodeURIComponent(id)}`;
  // An older service shows admins no logs of others.
  const knowsOthersLogs = useKnows(store.service, "GET", "/admin/jobs/{job_id}/log/{container_num}/stdout");
  const hasLogs = !view.isOthers || knowsOthersLogs;
  const folder = `${request.output_dir.replace(/\/*$/, "")}/`;
  const fixButton = (changes: ResubmissionOutput | null, missing: number): ReactNode =>
    changes && (
      <FixButton
        fix={changes}
        missing={missing}
        added={store.resubmitted(id, changes)}
        resubmit={() => store.resubmit(id, changes)}
        open={open}
      />
    );
  const message = refused || (error && !error.isOffline ? error.message : "");
  return (
    <section
      className="cts-card"
      data-mood={moodOf(state)}
      data-job={id}
      data-size={size}
      aria-label={tr.__("CTS job %1", id)}
      // The keys of a notebook's commands, such as the d of "delete the cell", are not meant for it.
      data-lm-suppress-shortcuts="true"
    >
      <header>
        <div className="cts-what">
          <strong title={`${job.image.name}@${job.image.digest}`}>{request.image}</strong>
          <div className="cts-faint">
            <code title={id}>{shortId(id)}</code>
            {` · ${job.user} · ${service}`}
          </div>
        </div>
        <div className="cts-how">
          <span role="status">
            <StateMark state={state} title={job.state} />
          </span>
          <Elapsed store={store} job={job} />
        </div>
      </header>
      <JobActions store={store} view={view} job={job} open={open} newJob={newJob} />
      {containers.length > 1 ? (
        <ContainerStrip
          containers={containers}
          chosen={chosen}
          choose={choose}
          open={(container) => {
            showLog(container, logNameOf(container, reasons));
          }}
          summary={formatProgress(total, counts, tr)}
        />
      ) : (
        <ProgressLine total={total} counts={counts} />
      )}
      {waiting && <p className="cts-faint">{waiting}</p>}
      {job.state === "error" && (
        <WhyBox
          reasons={reasons}
          showLog={showLog}
          fix={(reason) => fixButton(fixOf(reason, reasons), reason.containers.length)}
        >
          {fixButton(fix, Object.keys(counts).length ? total - countMoods(counts).done : 0)}
        </WhyBox>
      )}
      {warnings.length > 0 && (
        <div className="cts-warnings">
          {warnings.map((warning) => (
            <p key={warning}>{warning}</p>
          ))}
        </div>
      )}
      <div className="cts-faint">
        <div>{formatRequest(job, outputs !== null, tr)}</div>
        <div>{formatUsed(job, tr)}</div>
      </div>
      {outputs && (
        <Section
          name={section("outputs")}
          className="cts-outputs"
          title={tr.__("%1 in %2", formatCount(outputs.count, "output", tr), folder)}
          isOpen={isWide || outputs.count <= OPEN_OUTPUTS}
        >
          {() => <OutputTable service={store.service} jobId={id} outputs={outputs} folder={folder} />}
        </Section>
      )}
      {view.isOthers && (
        <p className="cts-faint">
          {hasLogs
            ? tr.__("You see this job of another user as an admin. Its files are for its owner.")
            : tr.__("You see this job of another user as an admin. Its files and logs are for its owner.")}
        </p>
      )}
      {moodOf(state) !== "waiting" && hasLogs && (
        <Section name={section("logs")} className="cts-logs" title={tr.__("Logs")}>
          {() => (
            <div ref={logs} className="cts-log-view">
              <LogView
                service={store.service}
                path={view.isOthers ? `admin/${path}` : path}
                containers={total}
                target={target ?? firstLog(reasons)}
                setTarget={setTarget}
                nextFailed={(after) => nextFailed(view, after)}
                isLive={isLive}
              />
            </div>
          )}
        </Section>
      )}
      {containers.length > 1 && (
        <Section
          name={section("containers")}
          className="cts-containers"
          title={formatCount(total, "container", tr)}
        >
          {() => (
            <ContainerTable
              service={store.service}
              path={view.isOthers ? null : path}
              containers={containers}
              cpus={request.cpus}
              now={now}
              isLive={isLive}
              chosen={chosen}
              choose={choose}
              showLog={showLog}
            />
          )}
        </Section>
      )}
      <Section name={section("timeline")} className="cts-timeline" title={tr.__("Timeline")} isOpen={isWide}>
        {() => <Timeline times={job.transition_times} containers={containers} now={now} />}
      </Section>
      {usage.length > 0 && (
        <Section
          name={section("usage")}
          className="cts-usage-section"
          title={tr.__("Usage")}
          isOpen={isWide && usage.some(({ hint }) => hint)}
        >
          {() => <UsageView usage={usage} />}
        </Section>
      )}
      {isLive && (
        <footer>
          <Live store={store} />
          {job.state !== "canceling" && (
            <CancelButton
              done={countMoods(counts).done}
              total={total}
              cancel={() => store.cancel(id)}
              onRefused={setRefused}
            />
          )}
        </footer>
      )}
      {message && (
        <div className="cts-error" role="alert">
          {message}
        </div>
      )}
    </section>
  );
}

/** The log of a container that is most likely to say what matters. */
function logNameOf(container: number, reasons: readonly Reason[]): LogName {
  const reason = reasons.find(({ containers }) => containers.includes(container));
  return !reason || (reason.stdout && !reason.stderr) ? "stdout" : "stderr";
}

/** The log that is most likely to say what matters. */
function firstLog(reasons: readonly Reason[]): LogTarget {
  const container = reasons[0]?.containers[0] ?? 0;
  return {
    container,
    name: reasons[0] && !reasons[0].containers.length ? "stderr" : logNameOf(container, reasons),
  };
}

function nextFailed({ containers, reasons }: JobView, after: number): number | null {
  const known = containers.filter(({ state }) => moodOf(state) === "failed").map(({ number }) => number);
  return nextOf(
    known.length ? known : reasons.flatMap((reason) => reason.containers).sort((a, b) => a - b),
    after,
  );
}

function Live({ store }: { store: JobStore }): ReactNode {
  return <StreamLine status={useStatus(store)} />;
}

function Elapsed({ store, job }: { store: JobStore; job: JobPreview }): ReactNode {
  const isLive = !hasEnded(job.state);
  const now = useNow(() => store.now(), isLive);
  const times = job.transition_times.map(({ time }) => Date.parse(time));
  const seconds = ((isLive ? now : (times.at(-1) ?? now)) - (times[0] ?? now)) / 1000;
  return <span className="cts-elapsed">{formatDuration(seconds, { tenths: !isLive })}</span>;
}

function formatRequest(job: JobPreview, hasOutputs: boolean, tr: Translator): string {
  const { job_input: request } = job;
  const parts = [
    tr.__(
      "%1 in %2",
      formatCount(job.input_file_count, "file", tr),
      formatCount(request.num_containers, "container", tr),
    ),
    tr.__(
      "%1, %2 and up to %3 each",
      formatCount(request.cpus, "cpu", tr),
      formatSize(request.memory),
      formatDuration(parseDuration(request.runtime), { tenths: false }),
    ),
    tr.__("at %1", request.cluster),
  ];
  parts.push(...Object.entries(job.labels ?? {}).map(([key, value]) => `${key}=${value}`));
  // The list of outputs names their folder itself.
  if (!hasOutputs) parts.push(tr.__("outputs into %1", request.output_dir));
  return parts.join(" · ");
}

function formatUsed(job: JobPreview, tr: Translator): string {
  const used = [];
  if (job.max_memory) {
    const total = formatSize(job.max_memory);
    const needed = formatSize(job.max_anonymous_memory ?? job.max_memory);
    used.push(
      needed === total
        ? tr.__("%1 of memory at most", needed)
        : tr.__("%1 of memory at most (%2 with cached files)", needed, total),
    );
  }
  if (job.cpu_hours !== undefined) {
    const time = formatDuration(job.cpu_hours * 3600);
    used.push(
      job.cpu_factor === undefined
        ? tr.__("%1 of cpu time", time)
        : tr.__("%1 of cpu time (cpu efficiency %2%%)", time, (job.cpu_factor * 100).toFixed(0)),
    );
  }
  return used.length ? tr.__("Used %1", used.join(tr.__(" and "))) : "";
}

/** Why a card shows what was saved instead of the job as it is now. */
export function WhySaved({ error }: { error: ServiceError }): ReactNode {
  const tr = useTranslator();
  if (error.isSignedOut) {
    return (
      <>
        {tr.__("Not live: you are signed out of Jupyter.")} <SignIn />
      </>
    );
  }
  if (error.isUnknown) {
    return tr.__("Not live: this Jupyter server's CTS does not know the job. This is what was saved.");
  }
  return tr.__("Not live. %1 This is what was saved; trying again.", error.message.replace(/\.?$/, "."));
}
