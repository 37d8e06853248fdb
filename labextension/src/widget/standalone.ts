// The component for pages without the JupyterLab extension, with its styles.

import index from "../../style/index.css";
import theme from "../../style/standalone.css";
import { STYLES } from "../components/form/styles";
import { mounting } from "./mount";

const style = document.createElement("style");
style.textContent = [theme, index, ...STYLES].join("\n");
document.head.append(style);

const { mount } = mounting(null);
export { mount };
