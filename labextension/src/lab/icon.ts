import { LabIcon } from "@jupyterlab/ui-components";

import svg from "../../style/jobs.svg";

export const jobsIcon = new LabIcon({ name: "cts:jobs", svgstr: svg });
