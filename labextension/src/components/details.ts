// The parts of a job's view that are loaded as one, see lazy.ts.

export { ContainerTable } from "./ContainerTable";
export { LogView } from "./LogView";
export { OutputTable } from "./OutputTable";
export { RequestBox } from "./RequestBox";
