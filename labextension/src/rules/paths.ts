// Paths of objects: parts between slashes; a folder's path ends with a slash.

/** The last part of a path, with the slash of a folder. */
export function nameOf(path: string): string {
  return path.slice(parentOf(path).length);
}

/** The folder that a file or a folder is in; empty for a bucket. */
export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/", path.length - 2) + 1);
}

/** The folders from a root to a folder in it, the root first; none where the folder is in no root. */
export function trailOf(folder: string, roots: readonly string[]): string[] {
  const root = roots.find((each) => folder.startsWith(each));
  const trail: string[] = [];
  if (root === undefined) return trail;
  for (let at = folder; at.length >= root.length; at = parentOf(at)) trail.unshift(at);
  return trail;
}

export function commonPrefix(texts: readonly string[]): string {
  let prefix = texts[0] ?? "";
  for (const text of texts) while (!text.startsWith(prefix)) prefix = prefix.slice(0, -1);
  return prefix;
}
