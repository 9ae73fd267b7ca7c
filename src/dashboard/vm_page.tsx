/** One VM: where it runs, what it says, how it does, and a switch of its primary as it happens. */
import { useEffect, useState } from "preact/hooks";
import { api, type MemberView, type VmHistory, type VmView } from "./api.ts";
import { Card } from "./card.tsx";
import { Charts } from "./charts.tsx";
import { ConfirmDialog } from "./confirm_dialog.tsx";
import { ConsoleView } from "./console_view.tsx";
import { EventFeed } from "./event_feed.tsx";
import { age, hueOf, millis, size, words } from "./format.ts";
import { MoveDialog } from "./move_dialog.tsx";
import { StatePill } from "./state_pill.tsx";
import { type MeshState, store } from "./store.ts";
import { LiveSwitch, SwitchHistory } from "./switches.tsx";

const historyMs = 2_000;

export function VmPage({ id, mesh }: { id: string; mesh: MeshState }) {
  const vm = mesh.vms.find((one) => one.id === id);
  const history = useHistory(id);
  if (vm === undefined) {
    if (mesh.status === null) return <p class="empty">Asking the node…</p>;
    return (
      <div class="empty">
        <p>There is no such VM any more, or none of its nodes answers.</p>
        <p>
          <a href="#/">Back to the overview</a>
        </p>
      </div>
    );
  }
  const events = mesh.events.filter(({ vm_id }) => vm_id === id);
  return (
    <div class={`vm-page hue-${hueOf(vm.id)}`}>
      <VmHead vm={vm} mesh={mesh} />
      <LiveSwitch vm={vm} events={events} history={history} />
      <Members vm={vm} />
      <ConsoleView vm={vm} />
      <Charts history={history} />
      <div class="pair">
        <SwitchHistory history={history} nameOf={(node) => nameOf(mesh, node)} />
        <Card title="Events" id="vm-events">
          <EventFeed events={events} />
        </Card>
      </div>
      <Facts vm={vm} />
    </div>
  );
}

function nameOf(mesh: MeshState, node: string): string {
  return mesh.nodes.find(({ id }) => id === node)?.name ?? `…${node.slice(-8)}`;
}

function useHistory(id: string): VmHistory {
  const [history, setHistory] = useState<VmHistory>({ samples: [], switches: [] });
  useEffect(() => {
    let left = false;
    const ask = async (): Promise<void> => {
      const fresh = await api.history(id).catch(() => null);
      if (fresh !== null && !left) setHistory(fresh);
    };
    void ask();
    const timer = window.setInterval(() => {
      if (!document.hidden) void ask();
    }, historyMs);
    return () => {
      left = true;
      window.clearInterval(timer);
    };
  }, [id]);
  return history;
}

function VmHead({ vm, mesh }: { vm: VmView; mesh: MeshState }) {
  const [asking, setAsking] = useState<"stop" | "remove" | "move" | null>(null);
  const done = (): void => setAsking(null);
  return (
    <div class="vm-head">
      <nav aria-label="Where this is">
        <a href="#/">Overview</a> <span aria-hidden="true">/</span>
      </nav>
      <h1>{vm.name}</h1>
      <StatePill state={vm.state} />
      <p class="where">
        {vm.primary_name === null ? "nowhere just now" : `on ${vm.primary_name}`}
        {vm.end_reason === null ? "" : ` · ${words(vm.end_reason)}`}
      </p>
      <div class="buttons">
        {vm.state !== "ended" && (
          <>
            <button type="button" onClick={() => setAsking("move")}>
              Move
            </button>
            <button type="button" onClick={() => setAsking("stop")}>
              Stop
            </button>
          </>
        )}
        <button type="button" class="danger" onClick={() => setAsking("remove")}>
          Remove
        </button>
      </div>
      {asking === "move" && <MoveDialog vm={vm} mesh={mesh} onClose={done} />}
      {asking === "stop" && (
        <ConfirmDialog
          title={`Stop ${vm.name}?`}
          text={
            "Its power button is pressed; a guest that does not end within half a minute is ended. " +
            "What it wrote to its console stays."
          }
          action="Stop it"
          run={() => api.stop(vm.id)}
          onClose={done}
        />
      )}
      {asking === "remove" && (
        <ConfirmDialog
          title={`Remove ${vm.name}?`}
          text="The VM ends, and its log and console are forgotten on all nodes."
          action="Remove it"
          run={async () => {
            await api.remove(vm.id);
            location.hash = "#/";
            store.refresh();
          }}
          onClose={done}
        />
      )}
    </div>
  );
}

function Members({ vm }: { vm: VmView }) {
  return (
    <ul class="members" aria-label={`Members of ${vm.name}`}>
      {vm.members.map((member) => (
        <Member key={member.node} vm={vm} member={member} />
      ))}
    </ul>
  );
}

function Member({ vm, member }: { vm: VmView; member: MemberView }) {
  const isPrimary = vm.primary === member.node;
  const behind = Math.max(0, vm.chunks - member.chunks);
  const away = member.state === "unreachable";
  return (
    <li class={`member ${isPrimary ? "primary" : ""} ${away ? "away" : ""}`}>
      <div class="member-head">
        <strong>{member.name}</strong>
        <span class="role">
          {isPrimary ? "primary" : member.role === "replica" ? "backup" : words(member.role)}
        </span>
      </div>
      <StatePill state={member.state} />
      <p class="number">
        {away ? "–" : behind === 0 ? "up to date" : `${behind} chunks behind`}
        {member.leader && !isPrimary ? " · leads" : ""}
      </p>
      {member.failure !== null && <p class="trouble">{member.failure}</p>}
    </li>
  );
}

function Facts({ vm }: { vm: VmView }) {
  const facts: readonly (readonly [string, string])[] = [
    ["Memory", size(vm.memory_bytes)],
    ["Age", age(Date.now() - vm.created_ms)],
    ["Guest time", `${(Number(vm.guest_ns) / 1e9).toFixed(1)} s`],
    ["Instructions", Number(vm.steps).toLocaleString("en")],
    ["Term", String(vm.term)],
    ["Log", `${size(vm.log_bytes)} in ${vm.chunks.toLocaleString("en")} chunks`],
    ["Console", size(vm.console_bytes)],
    ["Commit, median", millis(vm.commit_latency_ms)],
    ["Engine", vm.engine ?? "–"],
    ["Command line", vm.cmdline === "" ? "–" : vm.cmdline],
    ["Id", vm.id],
  ];
  return (
    <Card title="In numbers" id="facts">
      <dl class="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {vm.end_report !== null && vm.end_report !== "" && <pre>{vm.end_report}</pre>}
    </Card>
  );
}
