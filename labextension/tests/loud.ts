import { type Translator, english } from "../src/rules/translator";

/** A language that is told apart from English: it has no small letters. */
export const loud: Translator = {
  __: (...given) => english.__(...given).toUpperCase(),
  _n: (...given) => english._n(...given).toUpperCase(),
};
