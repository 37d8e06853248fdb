// The labels of a job, which a page, another one and a notebook may change at the same time.

export type Labels = Readonly<Record<string, string>>;

/** The changes that turn `before` into `wanted`, made to what the labels are now. */
export function mergeLabels(before: Labels, wanted: Labels, now: Labels): Record<string, string> {
  const merged = { ...now };
  for (const name of differences(before, wanted)) put(merged, name, wanted[name]);
  return merged;
}

/** The labels that were changed in `wanted` and `now`, and differently. */
export function findClashes(before: Labels, wanted: Labels, now: Labels): string[] {
  const theirs = new Set(differences(before, now));
  return differences(before, wanted).filter((name) => theirs.has(name) && wanted[name] !== now[name]);
}

/** The labels with one of them as it is now. */
export function adopt(labels: Labels, name: string, now: Labels): Record<string, string> {
  const adopted = { ...labels };
  put(adopted, name, now[name]);
  return adopted;
}

function put(labels: Record<string, string>, name: string, text: string | undefined): void {
  if (text === undefined) Reflect.deleteProperty(labels, name);
  else labels[name] = text;
}

function differences(one: Labels, other: Labels): string[] {
  return Object.keys({ ...one, ...other }).filter((name) => one[name] !== other[name]);
}
