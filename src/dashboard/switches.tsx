/** Switches of a VM's primary: the one that happens now, and those that were. */
import type { MeshEvent, VmHistory, VmView } from "./api.ts";
import { Card } from "./card.tsx";
import { clock, millis } from "./format.ts";

type Switch = VmHistory["switches"][number];

/** A switch is news for so long. */
const newsMs = 20_000;

/** Each step, the signs of it in events, and when it was done by the times of a whole switch. */
const steps = [
  { signs: ["lost", "switching"], text: "primary lost", after: () => 0 },
  {
    signs: ["elected", "going_live", "live"],
    text: "backup elected",
    after: (one: Switch) => one.elect_ms,
  },
  {
    signs: ["live", "running"],
    text: "log finished, running on",
    after: (one: Switch) => one.elect_ms + one.live_ms,
  },
  { signs: ["output"], text: "first output", after: (one: Switch) => one.total_ms },
] as const;

export function LiveSwitch(props: {
  vm: VmView;
  events: readonly MeshEvent[];
  history: VmHistory;
}) {
  const { vm, events, history } = props;
  const start = events.findLastIndex(
    ({ kind, to, at_ms }) =>
      Date.now() - at_ms < newsMs &&
      ((kind === "vm.moment" && to === "lost") || (kind === "vm.state" && to === "switching")),
  );
  const last = history.switches.findLast((one) => !one.first);
  const done = vm.state === "running" && last !== undefined && Date.now() - last.at_ms < newsMs;
  const switching = vm.state === "switching" || (start !== -1 && vm.state === "unreachable");
  if (!done && !switching) return null;
  const shown = start === -1 ? [] : events.slice(firstOf(events, start));
  return (
    <section class={`card live ${done ? "good" : "busy"}`} aria-labelledby="live-title">
      <h2 id="live-title">
        {done
          ? `${vm.name} runs on after ${millis(last.total_ms)}`
          : `${vm.name} has lost its primary; a backup takes over`}
      </h2>
      <ol class="steps">
        {steps.map(({ signs, text, after }) => {
          const seen = shown.some(({ to }) => (signs as readonly string[]).includes(to ?? ""));
          return (
            <li key={text} class={done || seen ? "passed" : ""}>
              <span>{text}</span>
              <small>{done ? `+ ${millis(after(last))}` : ""}</small>
            </li>
          );
        })}
      </ol>
      {done && <Bar one={last} longestMs={last.total_ms} />}
    </section>
  );
}

/** Signs of one loss come from several sides: the first of those that belong together. */
function firstOf(events: readonly MeshEvent[], start: number): number {
  let first = start;
  const at = events[start]?.at_ms ?? 0;
  while (first > 0 && at - (events[first - 1]?.at_ms ?? 0) < newsMs / 4) first -= 1;
  return first;
}

export function SwitchHistory(props: { history: VmHistory; nameOf: (node: string) => string }) {
  const switches = props.history.switches.filter((one) => !one.first).toReversed();
  const longestMs = Math.max(1, ...switches.map(({ total_ms }) => total_ms));
  return (
    <Card title="Switches" id="switches">
      {switches.length === 0 ? (
        <p class="empty">
          The primary has not changed. When its node dies, a backup goes on; here is then how long
          that took.
        </p>
      ) : (
        <>
          <ol class="switches">
            {switches.map((one) => (
              <li key={`${one.term} ${one.node}`}>
                <span class="switch-head">
                  <time dateTime={new Date(one.at_ms).toISOString()}>{clock(one.at_ms)}</time>
                  <span>to {props.nameOf(one.node)}</span>
                  <b>{millis(one.total_ms)}</b>
                </span>
                <Bar one={one} longestMs={longestMs} />
              </li>
            ))}
          </ol>
          <p class="keys">
            <span class="key">
              <i class="part elect" /> election
            </span>
            <span class="key">
              <i class="part live" /> rest of the log
            </span>
            <span class="key">
              <i class="part output" /> first output
            </span>
          </p>
        </>
      )}
    </Card>
  );
}

function Bar({ one, longestMs }: { one: Switch; longestMs: number }) {
  const parts = [
    ["elect", one.elect_ms, "election"],
    ["live", one.live_ms, "rest of the log"],
    ["output", one.output_ms, "first output"],
  ] as const;
  const inWords = parts.map(([, ms, name]) => `${name} ${millis(ms)}`).join(", ");
  return (
    <svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label={inWords}>
      <title>{inWords}</title>
      {parts.map(([name, ms], index) => {
        const before = parts.slice(0, index).reduce((sum, part) => sum + part[1], 0);
        const x = (before / longestMs) * 100;
        return (
          <rect key={name} class={name} x={x} y={0} width={(ms / longestMs) * 100} height={6} />
        );
      })}
    </svg>
  );
}
