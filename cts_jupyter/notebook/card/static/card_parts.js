// What a card shows of a job, as elements: each function makes one part of it from what is known.

import { el } from "./dom.js";
import { urlOf } from "./service.js";
import { moodOf, readDuration, sayCount, sayDuration, saySize, sayState, sayTime } from "./words.js";

const MAX_OUTPUTS = 50;
const MAX_FAILED_NAMED = 10;
const MOODS = ["done", "failed", "cancelled", "running", "waiting"];

// What was asked for, and what was used.
export function makeAsked(job) {
  const input = job.job_input;
  const asked = [
    `${sayCount(job.input_file_count, "file")} in ${sayCount(input.num_containers, "container")}`,
    `${sayCount(input.cpus, "cpu")}, ${saySize(input.memory)} and up to ` +
      `${sayDuration(readDuration(input.runtime) ?? 0, { tenths: false })} each`,
    `at ${input.cluster}`,
  ];
  // Where outputs are is said with them.
  if (!job.outputs?.length) asked.push(`outputs into ${input.output_dir}`);
  const used = [];
  if (job.max_memory) used.push(`${saySize(job.max_memory)} of memory at most`);
  if (job.cpu_hours !== undefined) used.push(`${sayDuration(job.cpu_hours * 3600)} of cpu time`);
  return [
    el("div", {}, asked.join(" \u00b7 ")),
    used.length ? el("div", {}, `Used ${used.join(" and ")}`) : null,
  ].filter(Boolean);
}

// A bar, and how many of the containers are done, from how many are in which state.
export function makeProgress(total, counts) {
  const byMood = Object.fromEntries(MOODS.map((mood) => [mood, 0]));
  for (const [state, n] of Object.entries(counts)) byMood[moodOf(state)] += n;
  const shown = MOODS.filter((mood) => byMood[mood]);
  const words = shown
    .filter((mood) => mood !== "done")
    .map((mood) => `${byMood[mood].toLocaleString("en")} ${mood}`);
  const text = [`${byMood.done.toLocaleString("en")} of ${sayCount(total, "container")} done`, ...words].join(", ");
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

// Why a job failed: the service's own sentence only says that some container did.
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
    lines.push(el("p", {}, `${sayCount(failed.length, "container")} failed: ${named}${more}`));
  }
  if (stderr) {
    lines.push(
      el("p", { className: "label" }, "The end of its stderr"),
      el("pre", { tabindex: 0, "aria-label": `End of the stderr of container ${first.number}` }, stderr));
  }
  return lines;
}

// The outputs in `folder`, each a link to its content, with its checksum.
export function makeOutputs(job, folder) {
  const rows = job.outputs.slice(0, MAX_OUTPUTS).map(({ file, crc64nvme }) => {
    const name = file.startsWith(folder) ? file.slice(folder.length) : file;
    const href = urlOf(`files/content?path=${encodeURIComponent(file)}`);
    return el("tr", {},
      el("td", {}, el("a", { href, download: file.split("/").pop(), title: file }, name)),
      el("td", {}, el("code", {}, crc64nvme ?? "")));
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

// When each state was reached, and how long after the start.
export function makeTimeline(times) {
  const start = Date.parse(times[0].time);
  return el("ol", {}, ...times.map(({ state, time }) =>
    el("li", { className: moodOf(state) },
      el("span", {}, sayState(state)),
      el("time", { datetime: time, title: time },
        `${sayTime(time)} (+${sayDuration((Date.parse(time) - start) / 1000)})`))));
}
