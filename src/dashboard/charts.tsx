/** The last minutes of a VM as charts: growth of its log, commit latency, lag of copies. */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import type { VmHistory } from "./api.ts";
import { Card } from "./card.tsx";
import { millis, size } from "./format.ts";

const heightPixels = 150;
/** Samples further apart are not joined: there was no primary between them. */
const gapSeconds = 6;

type Row = (number | null)[];
type Samples = VmHistory["samples"];

interface ChartKind {
  readonly id: string;
  readonly title: string;
  readonly format: (value: number) => string;
  /** One row for each line. */
  readonly rows: (samples: Samples) => Row[];
  readonly lines: readonly string[];
  /** The scale goes at least so far: noise of a quiet VM should look quiet. */
  readonly scaleLeast: number;
}

const kinds: readonly ChartKind[] = [
  {
    id: "log-rate",
    title: "Log",
    format: (value) => `${size(value)}/s`,
    rows: (samples) => [rates(samples)],
    lines: ["log"],
    scaleLeast: 200,
  },
  {
    id: "commit",
    title: "Commit",
    format: (value) => millis(value),
    rows: (samples) => [
      samples.map(({ commit_p50_ms }) => commit_p50_ms),
      samples.map(({ commit_p99_ms }) => commit_p99_ms),
    ],
    lines: ["median", "99 %"],
    scaleLeast: 4,
  },
  {
    id: "lag",
    title: "Lag of the slowest member",
    format: (value) => `${value.toFixed(0)} entries`,
    rows: (samples) => [samples.map(({ lag_chunks }) => lag_chunks)],
    lines: ["lag"],
    scaleLeast: 4,
  },
];

export function Charts({ history }: { history: VmHistory }) {
  return (
    <div class="charts">
      {kinds.map((kind) => (
        <Chart key={kind.id} kind={kind} history={history} />
      ))}
    </div>
  );
}

function Chart({ kind, history }: { kind: ChartKind; history: VmHistory }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const rows = kind.rows(history.samples);
  const newest = rows.map((row) => row.findLast((value) => value !== null) ?? null);
  const data = useRef<uPlot.AlignedData>([[]]);
  data.current = dataOf(history.samples, rows);
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const draw = (): void => {
      plot.current?.destroy();
      plot.current = new uPlot(optionsOf(kind, element), data.current, element);
    };
    draw();
    const resized = new ResizeObserver(() => {
      plot.current?.setSize({ width: element.clientWidth, height: heightPixels });
    });
    resized.observe(element);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    window.addEventListener("themechange", draw);
    return () => {
      resized.disconnect();
      dark.removeEventListener("change", draw);
      window.removeEventListener("themechange", draw);
      plot.current?.destroy();
    };
  }, [kind.id]);
  useEffect(() => plot.current?.setData(data.current), [history]);
  const inWords = kind.lines
    .map((line, index) => `${line} ${shown(kind, newest[index] ?? null)}`)
    .join(", ");
  return (
    <Card
      title={kind.title}
      id={kind.id}
      aside={
        <span class="reading">
          {newest.map((value, index) => (
            <span key={kind.lines[index]} class={`line-${index}`}>
              {shown(kind, value)}
            </span>
          ))}
        </span>
      }
    >
      <div class="plot" ref={place} role="img" aria-label={`${kind.title} now: ${inWords}`} />
      {history.samples.length < 2 && <p class="empty inside">Samples come every two seconds.</p>}
    </Card>
  );
}

function shown(kind: ChartKind, value: number | null): string {
  return value === null ? "–" : kind.format(value);
}

/** Bytes a second between neighbours; none where another copy counts anew. */
function rates(samples: Samples): Row {
  return samples.map((sample, index) => {
    const before = samples[index - 1];
    if (before === undefined || sample.log_bytes < before.log_bytes) return null;
    const seconds = (sample.at_ms - before.at_ms) / 1000;
    return seconds <= 0 ? null : (sample.log_bytes - before.log_bytes) / seconds;
  });
}

/** With a hole where there was no primary. */
function dataOf(samples: Samples, rows: readonly Row[]): uPlot.AlignedData {
  const times: number[] = [];
  const values: Row[] = rows.map(() => []);
  for (const [index, { at_ms }] of samples.entries()) {
    const at = at_ms / 1000;
    const before = times.at(-1);
    if (before !== undefined && at - before > gapSeconds) {
      times.push(before + 1);
      for (const row of values) row.push(null);
    }
    times.push(at);
    for (const [line, row] of values.entries()) row.push(rows[line]?.[index] ?? null);
  }
  return [times, ...values] as uPlot.AlignedData;
}

function optionsOf(kind: ChartKind, element: HTMLElement): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string): string => resolved(element, name);
  const axis = {
    stroke: colour("--plot-text"),
    grid: { stroke: colour("--plot-grid"), width: 1 },
    ticks: { show: false },
    font: `11px ${style.fontFamily}`,
  };
  return {
    width: element.clientWidth,
    height: heightPixels,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 8, 0, 0],
    scales: { y: { range: (_plot, _least, most) => [0, Math.max(kind.scaleLeast, most * 1.15)] } },
    axes: [
      { ...axis, size: 26, space: 90, values: (_plot, times) => times.map(timeText) },
      { ...axis, size: 74, space: 34, values: (_plot, values) => values.map(kind.format) },
    ],
    series: [
      {},
      ...kind.lines.map((label, index) => ({
        label,
        stroke: colour(`--plot-${index}`),
        width: 1.75,
        points: { show: false },
        ...(index === 0 ? { fill: colour("--plot-fill") } : {}),
      })),
    ],
  };
}

/** A colour as the browser works it out: of a variable alone it would give the formula. */
function resolved(element: HTMLElement, name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function timeText(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString(undefined, { hour12: false });
}
