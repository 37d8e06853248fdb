import { type ReactNode, useState } from "react";

import { Recent } from "../store/recent";

// A notebook makes an output anew when it is scrolled back into view: its sections stay as a person left them.
const MAX_OPENED = 300;
const opened = new Recent<string, boolean>(MAX_OPENED);

interface Props {
  /** Tells the section apart from all others of the page. */
  name: string;
  className: string;
  title: string;
  isOpen?: boolean;
  /** Made when it is first open. */
  children: () => ReactNode;
}

/** A part that can be opened and closed. */
export function Section({
  name,
  className,
  title,
  isOpen: isOpenAtFirst = false,
  children,
}: Props): ReactNode {
  const [isOpen, setOpen] = useState(opened.get(name) ?? isOpenAtFirst);
  return (
    <details
      className={`cts-section ${className}`}
      open={isOpen}
      onToggle={(event) => {
        opened.set(name, event.currentTarget.open);
        setOpen(event.currentTarget.open);
      }}
    >
      <summary>{title}</summary>
      {isOpen && <div className="cts-body">{children()}</div>}
    </details>
  );
}
