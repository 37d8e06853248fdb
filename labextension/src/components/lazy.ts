// The parts of a job's view that are loaded when one of them is first open; each stands in a Suspense.

import { type ComponentType, type ReactNode, createElement, lazy } from "react";

const failures = new Set<() => void>();

/** Has what could not be loaded loaded anew when it is next shown. */
export function forgetFailures(): void {
  for (const forget of failures) forget();
  failures.clear();
}

/** A component that is loaded when it is first shown. */
export function whenShown<Props extends object>(
  load: () => Promise<ComponentType<Props>>,
): (props: Props) => ReactNode {
  const make = (): ComponentType<Props> =>
    lazy(async () => {
      try {
        return { default: await load() };
      } catch (error) {
        failures.add(() => {
          part = make();
        });
        throw error;
      }
    }) as unknown as ComponentType<Props>;
  let part = make();
  return (props) => createElement(part, props);
}

export const ContainerTable = whenShown(async () => (await import("./details")).ContainerTable);
export const LabelsBox = whenShown(async () => {
  const [{ LabelsBox }] = await Promise.all([import("./LabelsBox"), import("./form/styles")]);
  return LabelsBox;
});
export const LogView = whenShown(async () => (await import("./details")).LogView);
export const OutputTable = whenShown(async () => (await import("./details")).OutputTable);
export const RequestBox = whenShown(async () => (await import("./details")).RequestBox);
