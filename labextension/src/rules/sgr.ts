// Splits a line of a terminal into pieces of one look. What else a terminal would obey is dropped or shown, never run.

export interface Span {
  readonly text: string;
  /** Class names, such as ``cts-bold cts-fg-red``. */
  readonly look: string;
}

// eslint-disable-next-line no-control-regex -- that is what a terminal's sequences begin with
const SEQUENCE = /\u001b\[([0-?]*)[ -/]*([@-~])|\u001b\][^\n\u0007\u001b]{0,500}(?:\u0007|\u001b\\)/g;
// eslint-disable-next-line no-control-regex -- shown as a picture each, but for the tab
const CONTROL = /[\u0000-\u0008\u000a-\u001f\u007f]/g;
const FIRST_PICTURE = 0x2400;
const PICTURE_OF_DELETE = "\u2421";

/** A bright colour is shown as the other of its name: each is as bright as can be read on the theme. */
const COLORS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"] as const;
type Color = (typeof COLORS)[number];

interface Look {
  isBold: boolean;
  isFaint: boolean;
  isItalic: boolean;
  isUnderlined: boolean;
  foreground: Color | null;
  background: Color | null;
}

const PLAIN: Look = {
  isBold: false,
  isFaint: false,
  isItalic: false,
  isUnderlined: false,
  foreground: null,
  background: null,
};

/** The pieces of a line; each line begins plain. */
export function spansOf(line: string): Span[] {
  const spans: Span[] = [];
  const add = (text: string, look: Look): void => {
    if (text) spans.push({ text: text.replace(CONTROL, picture), look: classesOf(look) });
  };
  let look = PLAIN;
  let place = 0;
  for (const found of line.matchAll(SEQUENCE)) {
    add(line.slice(place, found.index), look);
    place = found.index + found[0].length;
    if (found[2] === "m") look = change(look, found[1] ?? "");
  }
  add(line.slice(place), look);
  return spans;
}

/** A text of many lines without what a terminal would obey. */
export function withoutSequences(text: string): string {
  return text.replace(SEQUENCE, "");
}

/** The text of a line as it is shown. */
export function plainText(line: string): string {
  return spansOf(line)
    .map(({ text }) => text)
    .join("");
}

/** Where a text occurs in another, whatever their cases. */
export function occurrences(text: string, wanted: string): number[] {
  const places = [];
  const [within, needle] = [text.toLowerCase(), wanted.toLowerCase()];
  if (!needle) return [];
  for (let at = within.indexOf(needle); at >= 0; at = within.indexOf(needle, at + needle.length))
    places.push(at);
  return places;
}

/** The pieces, split where a wanted text begins and ends; those of it have `isFound`. */
export function markSpans(spans: readonly Span[], wanted: string): (Span & { isFound: boolean })[] {
  const text = spans.map((span) => span.text).join("");
  const ranges = occurrences(text, wanted).map((at) => [at, at + wanted.length] as const);
  const edges = ranges.flat();
  const marked = [];
  let place = 0;
  for (const { text: piece, look } of spans) {
    const end = place + piece.length;
    const cuts = [...edges.filter((edge) => edge > place && edge < end), end];
    let begin = place;
    for (const cut of cuts) {
      const from = begin;
      const isFound = ranges.some(([first, last]) => from >= first && from < last);
      marked.push({ text: text.slice(begin, cut), look, isFound });
      begin = cut;
    }
    place = end;
  }
  return marked;
}

function picture(control: string): string {
  const code = control.charCodeAt(0);
  return code === 127 ? PICTURE_OF_DELETE : String.fromCharCode(FIRST_PICTURE + code);
}

function change(look: Look, parameters: string): Look {
  const codes = parameters.split(/[;:]/).map(Number);
  let changed = look;
  for (let n = 0; n < codes.length; n += 1) {
    const code = codes[n] ?? 0;
    if (code === 38 || code === 48) {
      // Of 256 colours, the first 16 are these; the others, and those by their parts, may be hard to read on the theme.
      const color = codes[n + 1] === 5 ? (codes[n + 2] ?? 0) : 16;
      const shown = color < 16 ? colorOf(color) : null;
      changed = { ...changed, ...(code === 38 ? { foreground: shown } : { background: shown }) };
      n += codes[n + 1] === 5 ? 2 : 4;
    } else {
      changed = changeBy(changed, code);
    }
  }
  return changed;
}

function changeBy(look: Look, code: number): Look {
  if (code === 0) return PLAIN;
  if (code === 1) return { ...look, isBold: true };
  if (code === 2) return { ...look, isFaint: true };
  if (code === 3) return { ...look, isItalic: true };
  if (code === 4) return { ...look, isUnderlined: true };
  if (code === 22) return { ...look, isBold: false, isFaint: false };
  if (code === 23) return { ...look, isItalic: false };
  if (code === 24) return { ...look, isUnderlined: false };
  if (code >= 30 && code <= 37) return { ...look, foreground: colorOf(code - 30) };
  if (code === 39) return { ...look, foreground: null };
  if (code >= 40 && code <= 47) return { ...look, background: colorOf(code - 40) };
  if (code === 49) return { ...look, background: null };
  if (code >= 90 && code <= 97) return { ...look, foreground: colorOf(code - 90) };
  if (code >= 100 && code <= 107) return { ...look, background: colorOf(code - 100) };
  return look;
}

function colorOf(code: number): Color | null {
  return COLORS[code % COLORS.length] ?? null;
}

function classesOf(look: Look): string {
  const classes = [];
  if (look.isBold) classes.push("cts-bold");
  if (look.isFaint) classes.push("cts-dim");
  if (look.isItalic) classes.push("cts-italic");
  if (look.isUnderlined) classes.push("cts-underlined");
  if (look.foreground !== null) classes.push(`cts-fg-${look.foreground}`);
  if (look.background !== null) classes.push(`cts-bg-${look.background}`);
  return classes.join(" ");
}
