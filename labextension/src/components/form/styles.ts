// What the form looks like besides all else, wherever it is shown: a bundler of Lab adds them to the page, a widget's gives their texts.

import files from "../../../style/files.css";
import form from "../../../style/form.css";

export const STYLES: readonly string[] = [files, form];
