import { type FocusEvent, type KeyboardEvent, type ReactNode, useEffect, useRef, useState } from "react";

export interface MenuItem {
  label: string;
  /** Null for a sentence in the place of what cannot be done. */
  act: (() => void) | null;
}

interface Props {
  label: string;
  /** What a button without words is called. */
  name?: string;
  items: readonly MenuItem[];
}

/** A button with a menu below it, which pushes down what follows: an output of a notebook would cut off what lies over it. */
export function Menu({ label, name, items }: Props): ReactNode {
  const [isOpen, setOpen] = useState(false);
  const frame = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const entries = (): HTMLElement[] => [
    ...(frame.current?.querySelectorAll<HTMLElement>('[role="menuitem"]') ?? []),
  ];
  useEffect(() => {
    if (isOpen) entries()[0]?.focus();
  }, [isOpen]);
  const close = (): void => {
    setOpen(false);
    button.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (!isOpen) return;
    const all = entries();
    const at = all.findIndex((entry) => entry === document.activeElement);
    const places: Record<string, number> = {
      ArrowDown: (at + 1) % all.length,
      ArrowUp: (at + all.length - 1) % all.length,
      Home: 0,
      End: all.length - 1,
    };
    const place = places[event.key];
    if (place !== undefined) all[place]?.focus();
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const onBlur = (event: FocusEvent): void => {
    if (!event.currentTarget.contains(event.relatedTarget)) setOpen(false);
  };
  return (
    <div ref={frame} className="cts-menu" role="presentation" onKeyDown={onKeyDown} onBlur={onBlur}>
      <button
        ref={button}
        type="button"
        aria-haspopup="menu"
        aria-expanded={isOpen}
        aria-label={name}
        title={name}
        onClick={() => {
          setOpen(!isOpen);
        }}
      >
        {label}
      </button>
      {isOpen && (
        <div className="cts-menu-items" role="menu" aria-label={name ?? label}>
          {items.map(({ label: text, act }) => (
            <button
              key={text}
              type="button"
              role="menuitem"
              tabIndex={-1}
              aria-disabled={act === null}
              onClick={() => {
                if (!act) return;
                close();
                act();
              }}
            >
              {text}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
