// The part of JupyterLab's translations that components use.

export interface Translator {
  __(text: string, ...values: (string | number)[]): string;
  /** ``%1`` is the count, and the values follow from ``%2`` on. */
  _n(singular: string, plural: string, count: number, ...values: (string | number)[]): string;
}

function fill(text: string, values: readonly (string | number)[]): string {
  return text.replace(/%(\d|%)/g, (_, place: string) =>
    place === "%" ? "%" : String(values[Number(place) - 1] ?? ""),
  );
}

/** The texts as they are written, for pages that have no translations. */
export const english: Translator = {
  __: (text, ...values) => fill(text, values),
  _n: (singular, plural, count, ...values) => fill(count === 1 ? singular : plural, [count, ...values]),
};
