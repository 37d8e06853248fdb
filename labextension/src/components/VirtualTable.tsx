import { type ReactNode, useRef } from "react";

import { useRows } from "./rows";

const ROW_PX = 24;
/** Rows beyond those in sight. */
const OVERSCAN = 10;

export interface Column<Row> {
  title: string;
  /** Its class, by which the style says how wide it is, and whether a narrow table has it. */
  className: string;
  cell: (row: Row) => ReactNode;
}

interface Props<Row> {
  label: string;
  rows: readonly Row[];
  columns: readonly Column<Row>[];
  keyOf: (row: Row) => string | number;
  isChosen?: (row: Row) => boolean;
}

/** A table of which only the rows in sight are in the page. */
export function VirtualTable<Row>({ label, rows, columns, keyOf, isChosen }: Props<Row>): ReactNode {
  const frame = useRef<HTMLDivElement>(null);
  const virtual = useRows({ items: rows, keyOf, frame, heightOf: () => ROW_PX, overscan: OVERSCAN });
  const shown = virtual.getVirtualItems();
  const before = shown[0]?.start ?? 0;
  const after = virtual.getTotalSize() - (shown.at(-1)?.end ?? 0);
  return (
    <div ref={frame} className="cts-table" role="region" tabIndex={0} aria-label={label}>
      <div style={{ paddingTop: before, paddingBottom: Math.max(after, 0) }}>
        <table aria-rowcount={rows.length + 1}>
          <thead>
            <tr aria-rowindex={1}>
              {columns.map(({ title, className }) => (
                <th key={className} scope="col" className={className}>
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.map(({ index, key }) => {
              const row = rows[index];
              return row === undefined ? null : (
                <tr
                  key={key}
                  ref={virtual.measureElement}
                  data-index={index}
                  aria-rowindex={index + 2}
                  aria-current={isChosen?.(row)}
                >
                  {columns.map(({ className, cell }) => (
                    <td key={className} className={className}>
                      {cell(row)}
                    </td>
                  ))}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </div>
  );
}
