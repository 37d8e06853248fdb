// The parts of a job's view that are loaded when one of them is first open; each stands in a Suspense.

import { lazy } from "react";

export const ContainerTable = lazy(async () => ({ default: (await import("./details")).ContainerTable }));
export const LogView = lazy(async () => ({ default: (await import("./details")).LogView }));
export const OutputTable = lazy(async () => ({ default: (await import("./details")).OutputTable }));
export const RequestBox = lazy(async () => ({ default: (await import("./details")).RequestBox }));
