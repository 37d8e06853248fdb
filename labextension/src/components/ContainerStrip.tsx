import { type MouseEvent, type ReactNode, useEffect, useRef, useState } from "react";

import type { Container } from "../api/types";
import { type StripLayout, cellAt, describeContainer, layOut, nextOf } from "../rules/strip";
import { type Mood, MOODS, moodOf } from "../rules/words";
import { useTranslator } from "./context";
import { onKeys } from "./keys";

interface Props {
  containers: readonly Container[];
  chosen: number | null;
  choose: (container: number) => void;
  /** Shows the log of a container. */
  open: (container: number) => void;
  /** What the strip shows, in words. */
  summary: string;
}

/** All containers of a job as one picture, each a cell whose colour and shape say its state. */
export function ContainerStrip({ containers, chosen, choose, open, summary }: Props): ReactNode {
  const tr = useTranslator();
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [theme, setTheme] = useState(0);
  const [pointed, point] = useState<number | null>(null);
  const count = containers.length;
  const layout = layOut(count, width);
  const place = containers.findIndex(({ number }) => number === chosen);

  useEffect(() => {
    const element = canvas.current?.parentElement;
    if (!element) return undefined;
    const measure = (): void => {
      setWidth(element.clientWidth);
    };
    const sizes = new ResizeObserver(measure);
    sizes.observe(element);
    measure();
    // JupyterLab names the theme at the body once its colours are there.
    const themes = new MutationObserver(() => {
      setTheme((changes) => changes + 1);
    });
    themes.observe(document.body, { attributes: true });
    return () => {
      sizes.disconnect();
      themes.disconnect();
    };
  }, []);
  useEffect(() => {
    if (canvas.current && width) {
      draw(
        canvas.current,
        containers.map(({ state }) => moodOf(state)),
        layout,
        width,
        place,
      );
    }
    // The layout is made of the width and the containers.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [containers, width, theme, place]);

  const goTo = (cell: number): void => {
    const container = containers[Math.min(Math.max(cell, 0), count - 1)];
    if (container) choose(container.number);
  };
  const failed = containers.filter(({ state }) => moodOf(state) === "failed").map(({ number }) => number);
  const keys: Record<string, () => void> = {
    ArrowLeft: () => {
      goTo(place - 1);
    },
    ArrowRight: () => {
      goTo(place + 1);
    },
    ArrowUp: () => {
      goTo(place - layout.columns);
    },
    ArrowDown: () => {
      goTo(place + layout.columns);
    },
    Home: () => {
      goTo(0);
    },
    End: () => {
      goTo(count - 1);
    },
    n: () => {
      const next = nextOf(failed, chosen ?? -1);
      if (next !== null) choose(next);
    },
    Enter: () => {
      if (chosen !== null) open(chosen);
    },
  };
  const at = (event: MouseEvent): Container | undefined => {
    const { left, top } = event.currentTarget.getBoundingClientRect();
    const cell = cellAt(layout, count, event.clientX - left, event.clientY - top);
    return cell === null ? undefined : containers[cell];
  };
  const shown = containers.find(({ number }) => number === (pointed ?? chosen));
  const text = shown ? describeContainer(shown, count, tr) : "";
  return (
    <div>
      <div
        className="cts-strip"
        role="slider"
        tabIndex={0}
        aria-label={tr.__("Container")}
        aria-valuemin={0}
        aria-valuemax={count - 1}
        aria-valuenow={chosen ?? 0}
        aria-valuetext={text || summary}
        style={{ height: layout.rows * layout.rowHeight }}
        onKeyDown={onKeys(keys)}
        onMouseMove={(event) => {
          point(at(event)?.number ?? null);
        }}
        onMouseLeave={() => {
          point(null);
        }}
        onClick={(event) => {
          const container = at(event);
          if (container) choose(container.number);
        }}
        onDoubleClick={(event) => {
          const container = at(event);
          if (container) open(container.number);
        }}
      >
        {/* eslint-disable-next-line jsx-a11y/no-interactive-element-to-noninteractive-role -- a picture, which is all it is */}
        <canvas ref={canvas} role="img" aria-label={summary} />
      </div>
      <div className="cts-strip-text" aria-hidden="true">
        <span className="cts-count">{summary}</span> <span className="cts-faint">{text}</span>
      </div>
    </div>
  );
}

/** Where a cell is filled, as parts of its height: from its top, and how much. No state is told by colour alone. */
const SHAPES: Readonly<Record<Mood, readonly (readonly [top: number, height: number])[]>> = {
  done: [[0, 1]],
  failed: [
    [0, 0.4],
    [0.6, 0.4],
  ],
  running: [[0.35, 0.65]],
  waiting: [[0.8, 0.2]],
  cancelled: [[0.4, 0.2]],
};

function draw(
  canvas: HTMLCanvasElement,
  moods: readonly Mood[],
  { columns, rows, pitch, rowHeight }: StripLayout,
  width: number,
  chosen: number,
): void {
  const context = canvas.getContext("2d");
  if (!context) return;
  const scale = window.devicePixelRatio || 1;
  const height = rows * rowHeight;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  context.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const colors = new Map(
    MOODS.map((mood) => {
      const isFaint = mood === "waiting" || mood === "cancelled";
      return [mood, isFaint ? style.color : style.getPropertyValue(`--cts-${mood}`).trim()];
    }),
  );
  const text = getComputedStyle(canvas.parentElement ?? canvas).color;
  const gap = pitch >= 4 ? 1 : 0;
  const inner = rowHeight - 3;
  moods.forEach((mood, cell) => {
    const left = Math.round((cell % columns) * pitch);
    const right = Math.round(((cell % columns) + 1) * pitch) - gap;
    const top = Math.floor(cell / columns) * rowHeight + 1;
    context.fillStyle = colors.get(mood) ?? "";
    for (const [from, part] of SHAPES[mood]) {
      context.fillRect(
        left,
        top + Math.round(from * inner),
        right - left,
        Math.max(1, Math.round(part * inner)),
      );
    }
    if (cell === chosen) {
      context.strokeStyle = text;
      context.lineWidth = 2;
      context.strokeRect(left, top, right - left, inner);
    }
  });
}
