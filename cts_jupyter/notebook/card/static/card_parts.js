// The parts of a job's card as elements; each function makes one part.

import { el } from "./dom.js";
import { urlOf } from "./service.js";
import { moodOf, parseDuration, formatCount, formatDuration, formatSize, formatState, formatTime } from "./words.js";

const MAX_OUTPUTS = 50;
const MAX_FAILED_NAMED = 10;
const MAX_INPUTS_NAMED = 5;
// The checksum of no bytes.
const EMPTY = "AAAAAAAAAAA=";
const MOODS = ["done", "failed", "cancelled", "running", "waiting"];

// The resources that the job requested, and those that it used.
export function makeRequest(job) {
  const input = job.job_input;
  const request = [
    `${formatCount(job.input_file_count, "file")} in ${formatCount(input.num_containers, "container")}`,
    `${formatCount(input.cpus, "cpu")}, ${formatSize(input.memory)} and up to ` +
      `${formatDuration(parseDuration(input.runtime) ?? 0, { tenths: false })} each`,
    `at ${input.cluster}`,
  ];
  // The list of outputs names their folder itself.
  if (!job.outputs?.length) request.push(`outputs into ${input.output_dir}`);
  const used = [];
  if (job.max_memory) {
    const total = formatSize(job.max_memory);
    const needed = formatSize(job.max_anonymous_memory || job.max_memory);
    used.push(`${needed} of memory at most${needed === total ? "" : ` (${total} with cached files)`}`);
  }
  if (job.cpu_hours !== undefined) {
    const efficiency = job.cpu_factor === undefined ? "" : ` (cpu efficiency ${(job.cpu_factor * 100).toFixed(0)}%)`;
    used.push(`${formatDuration(job.cpu_hours * 3600)} of cpu time${efficiency}`);
  }
  return [
    el("div", {}, request.join(" \u00b7 ")),
    used.length ? el("div", {}, `Used ${used.join(" and ")}`) : null,
  ].filter(Boolean);
}

// A progress bar with a text, from the number of containers in each state.
export function makeProgress(total, counts) {
  const byMood = Object.fromEntries(MOODS.map((mood) => [mood, 0]));
  for (const [state, n] of Object.entries(counts)) byMood[moodOf(state)] += n;
  const shown = MOODS.filter((mood) => byMood[mood]);
  const words = shown
    .filter((mood) => mood !== "done")
    .map((mood) => `${byMood[mood].toLocaleString("en")} ${mood}`);
  const text = [`${byMood.done.toLocaleString("en")} of ${formatCount(total, "container")} done`, ...words].join(", ");
  return [
    el("div", {
      className: "bar", role: "progressbar", "aria-label": "Containers done",
      "aria-valuemin": 0, "aria-valuemax": total, "aria-valuenow": byMood.done, "aria-valuetext": text,
    }, ...shown.map((mood) => {
      const part = el("span", { className: mood });
      part.style.flexGrow = byMood[mood];
      return part;
    })),
    el("div", { className: "count" }, text),
  ];
}

// The reason why a job failed; its own error only says that some container failed.
export function makeFailure(job, failure) {
  if (!failure) return [el("p", {}, job.error ?? "The job failed.")];
  const lines = [];
  const { failed, first, stderr } = failure;
  const code = first.exit_code === undefined ? "" : `exit code ${first.exit_code}`;
  const name = el("strong", {}, `Container ${first.number}`);
  if (first.error) lines.push(el("p", {}, name, `: ${first.error}${code ? ` (${code})` : ""}`));
  else lines.push(el("p", {}, name, ` ended with ${code || "an error"}`));
  if (failed.length > 1) {
    const named = failed.slice(0, MAX_FAILED_NAMED).map((c) => c.number).join(", ");
    const more = failed.length > MAX_FAILED_NAMED ? ", \u2026" : "";
    lines.push(el("p", {}, `${formatCount(failed.length, "container")} failed: ${named}${more}`));
  }
  lines.push(...nameInputs(failed));
  if (stderr) {
    lines.push(
      el("p", { className: "label" }, "The end of its stderr"),
      el("pre", { tabindex: 0, "aria-label": `End of the stderr of container ${first.number}` }, stderr));
  }
  return lines;
}

function nameInputs(containers) {
  const paths = containers.flatMap((c) => c.inputs.map(({ file }) => file));
  if (!paths.length) return [];
  const hidden = paths.length - MAX_INPUTS_NAMED;
  const more = hidden > 0 ? ` and ${hidden.toLocaleString("en")} more` : "";
  const noun = paths.length === 1 ? "Input" : "Inputs";
  return [el("p", {}, `${noun}: ${paths.slice(0, MAX_INPUTS_NAMED).join(", ")}${more}`)];
}

// The outputs in `folder`, each a link to its content, with its checksum.
export function makeOutputs(job, folder) {
  const rows = job.outputs.slice(0, MAX_OUTPUTS).map(({ file, crc64nvme }) => {
    const name = file.startsWith(folder) ? file.slice(folder.length) : file;
    const href = urlOf(`files/content?path=${encodeURIComponent(file)}`);
    return el("tr", {},
      el("td", {}, el("a", { href, download: file.split("/").pop(), title: file }, name)),
      el("td", {}, el("code", {}, crc64nvme ?? ""), crc64nvme === EMPTY ? " (0 bytes)" : ""));
  });
  const hidden = job.outputs.length - rows.length;
  return [
    el("table", {},
      el("thead", {}, el("tr", {},
        el("th", { scope: "col" }, "File"), el("th", { scope: "col" }, "CRC64/NVME"))),
      el("tbody", {}, ...rows)),
    hidden ? el("p", {}, `and ${hidden.toLocaleString("en")} more: %cts files ${job.id.slice(0, 8)}`) : null,
  ].filter(Boolean);
}

// A person is told that a job runs as soon as one of its containers does; of other states, once all came to them.
const FIRST = ["job_submitting", "job_submitted"];

function timelineOf(times, containers) {
  const steps = new Map(times.map(({ state, time }) => [state, time]));
  for (const first of FIRST) {
    const begun = containers.flatMap((c) => c.transition_times).filter(({ state }) => state === first);
    if (!begun.length) continue;
    steps.set(first, begun.map(({ time }) => time).reduce((a, b) => (Date.parse(b) < Date.parse(a) ? b : a)));
  }
  const sorted = [...steps].sort(([, a], [, b]) => Date.parse(a) - Date.parse(b));
  // States that read alike are one.
  return sorted.filter(([state], n) => !n || formatState(state) !== formatState(sorted[n - 1][0]));
}

// The time of each state, and the duration since the start.
export function makeTimeline(times, containers) {
  const start = Date.parse(times[0].time);
  return el("ol", {}, ...timelineOf(times, containers).map(([state, time]) =>
    el("li", { className: moodOf(state) },
      el("span", {}, formatState(state)),
      el("time", { datetime: time, title: time },
        `${formatTime(time)} (+${formatDuration((Date.parse(time) - start) / 1000)})`))));
}
