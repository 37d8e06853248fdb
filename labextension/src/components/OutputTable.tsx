import type { ReactNode } from "react";

import { number, shortId } from "../rules/words";
import type { IService } from "../service/port";
import type { Outputs } from "../store/jobs";
import { useTranslator } from "./context";

/** The checksum of no bytes. */
const EMPTY = "AAAAAAAAAAA=";

interface Props {
  service: IService;
  jobId: string;
  outputs: Outputs;
  /** Ends with a slash. */
  folder: string;
}

/** The outputs of a job, each a link to its content, with its checksum. */
export function OutputTable({ service, jobId, outputs, folder }: Props): ReactNode {
  const tr = useTranslator();
  const hidden = outputs.count - outputs.shown.length;
  return (
    <>
      <table>
        <thead>
          <tr>
            <th scope="col">{tr.__("File")}</th>
            <th scope="col">CRC64/NVME</th>
          </tr>
        </thead>
        <tbody>
          {outputs.shown.map(({ file, crc64nvme }) => (
            <tr key={file}>
              <td>
                <a
                  href={service.url("files/content", { path: file })}
                  download={file.split("/").pop()}
                  title={file}
                >
                  {file.startsWith(folder) ? file.slice(folder.length) : file}
                </a>
              </td>
              <td>
                <code>{crc64nvme}</code>
                {crc64nvme === EMPTY && ` ${tr.__("(0 bytes)")}`}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {hidden > 0 && <p>{tr.__("and %1 more: %cts files %2", number(hidden), shortId(jobId))}</p>}
    </>
  );
}
