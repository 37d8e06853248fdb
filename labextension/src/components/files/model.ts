import type { IService } from "../../service/port";
import type { EventStream } from "../../service/stream";
import { Checksums } from "../../store/checksums";
import { FileBrowser } from "../../store/files";
import { Selection } from "../../store/selection";

/** The files of a form: those to choose among, those that are chosen, and their checksums. */
export interface FilesModel {
  readonly service: IService;
  readonly browser: FileBrowser;
  readonly selection: Selection;
  readonly checksums: Checksums;
}

export function makeFiles(service: IService, stream: EventStream): FilesModel {
  const selection = new Selection();
  return {
    service,
    selection,
    browser: new FileBrowser(service, selection),
    checksums: new Checksums(service, stream, selection),
  };
}
