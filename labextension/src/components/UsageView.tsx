import type { ReactNode } from "react";

import type { Used } from "../rules/usage";

const WIDTH = 200;
const HEIGHT = 10;

/** What was used of what was asked for, as bars, with what would have done. */
export function UsageView({ usage }: { usage: readonly Used[] }): ReactNode {
  return (
    <dl className="cts-usage">
      {usage.map(({ title, used, asked, text, hint }) => (
        <div key={title}>
          <dt>{title}</dt>
          <dd>
            <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
              <rect className="cts-asked" width={WIDTH} height={HEIGHT} />
              <rect className="cts-used" width={WIDTH * Math.min(1, used / asked)} height={HEIGHT} />
            </svg>
            <span>{text}</span>
            {hint && <p>{hint}</p>}
          </dd>
        </div>
      ))}
    </dl>
  );
}
