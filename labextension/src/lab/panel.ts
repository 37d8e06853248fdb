// The form, with its styles, loaded when it is first shown: most pages never need it.

import { lazy } from "react";

export const LazyPanel = lazy(async () => {
  const [{ Panel }] = await Promise.all([
    import("../components/form/Panel"),
    import("../../style/form.css"),
    import("../../style/files.css"),
  ]);
  return { default: Panel };
});
