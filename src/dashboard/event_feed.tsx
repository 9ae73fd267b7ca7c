/** The newest events, newest first. */
import type { MeshEvent } from "./api.ts";
import { clock } from "./format.ts";

const shownMax = 40;

export function EventFeed({ events }: { events: readonly MeshEvent[] }) {
  const shown = events.filter(({ kind }) => kind !== "reset").slice(-shownMax);
  if (shown.length === 0) return <p class="empty">Nothing has happened since this node started.</p>;
  return (
    <ol class="feed" aria-label="Events, newest first" tabIndex={0}>
      {shown.toReversed().map((event) => (
        <li key={event.id} class={`event ${toneOfEvent(event)}`}>
          <time dateTime={new Date(event.at_ms).toISOString()}>{clock(event.at_ms)}</time>
          <span>{event.text}</span>
        </li>
      ))}
    </ol>
  );
}

function toneOfEvent(event: MeshEvent): string {
  if (event.kind === "node.down" || event.to === "unreachable" || event.to === "failed")
    return "bad";
  if (event.kind === "vm.switch" || event.to === "running" || event.kind === "node.up")
    return "good";
  return event.to === "lost" || event.to === "switching" ? "busy" : "calm";
}
