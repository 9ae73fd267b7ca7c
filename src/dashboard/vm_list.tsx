/** All VMs, each a card with what matters most, and the way to make one. */
import { useState } from "preact/hooks";
import type { VmView } from "./api.ts";
import { Card } from "./card.tsx";
import { CreateDialog } from "./create_dialog.tsx";
import { age, hueOf, millis, size } from "./format.ts";
import { StatePill } from "./state_pill.tsx";
import type { MeshState } from "./store.ts";

export function VmList({ mesh }: { mesh: MeshState }) {
  const [creating, setCreating] = useState(false);
  const create = (
    <button type="button" class="primary" onClick={() => setCreating(true)}>
      New VM
    </button>
  );
  return (
    <Card title="Virtual machines" id="vms" aside={create}>
      {mesh.vms.length === 0 ? (
        <div class="empty">
          <p>There is no VM yet.</p>
          <p>
            A VM with 2 copies and 1 witness lives on when any one of its machines dies. Make one
            here, or with <code>node-mesh vm run NAME</code>.
          </p>
        </div>
      ) : (
        <ul class="vms">
          {mesh.vms.map((vm) => (
            <VmCard key={vm.id} vm={vm} />
          ))}
        </ul>
      )}
      {creating && <CreateDialog mesh={mesh} onClose={() => setCreating(false)} />}
    </Card>
  );
}

function VmCard({ vm }: { vm: VmView }) {
  return (
    <li class={`vm hue-${hueOf(vm.id)}`}>
      <a href={`#/vm/${vm.id}`} class="vm-link">
        <span class="vm-name">{vm.name}</span>
        <StatePill state={vm.state} />
      </a>
      <dl class="facts small">
        <div>
          <dt>runs on</dt>
          <dd>{vm.primary_name ?? "–"}</dd>
        </div>
        <div>
          <dt>copies</dt>
          <dd>
            {vm.copies_ready} of {vm.copies}
          </dd>
        </div>
        <div>
          <dt>commit</dt>
          <dd>{millis(vm.commit_latency_ms)}</dd>
        </div>
        <div>
          <dt>memory</dt>
          <dd>{size(vm.memory_bytes)}</dd>
        </div>
        <div>
          <dt>log</dt>
          <dd>{size(vm.log_bytes)}</dd>
        </div>
        <div>
          <dt>age</dt>
          <dd>{age(Date.now() - vm.created_ms)}</dd>
        </div>
      </dl>
    </li>
  );
}
