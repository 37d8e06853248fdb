// The component for pages without the JupyterLab extension, with its styles.

import files from "../../style/files.css";
import index from "../../style/index.css";
import theme from "../../style/standalone.css";
import { mounting } from "./mount";

const style = document.createElement("style");
style.textContent = `${theme}\n${index}\n${files}`;
document.head.append(style);

const { mount } = mounting(null);
export { mount };
