// What is loaded when it is first shown, with its styles: most pages need none of it as they start.

import { type ReactNode, Suspense } from "react";

import { ErrorBoundary } from "../components/ErrorBoundary";
import { useTranslator } from "../components/context";
import { whenShown } from "../components/lazy";

export const LazyPanel = whenShown(async () => {
  const [{ Panel }] = await Promise.all([
    import("../components/form/Panel"),
    import("../components/form/styles"),
  ]);
  return Panel;
});

export const LazySidebar = whenShown(async () => (await import("../components/JobsSidebar")).JobsSidebar);

/** Says that what it holds is being loaded, or could not be. */
export function Loading({ children }: { children: ReactNode }): ReactNode {
  const tr = useTranslator();
  return (
    <ErrorBoundary>
      <Suspense fallback={<p className="cts-empty">{tr.__("Loading …")}</p>}>{children}</Suspense>
    </ErrorBoundary>
  );
}
