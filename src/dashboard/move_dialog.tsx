/** Asks where a VM should run, and shows how it gets there. */
import { useState } from "preact/hooks";
import { api, type VmView } from "./api.ts";
import { Dialog, DialogEnd } from "./dialog.tsx";
import { size } from "./format.ts";
import { type MeshState, store } from "./store.ts";

export function MoveDialog(props: { vm: VmView; mesh: MeshState; onClose: () => void }) {
  const { vm, mesh, onClose } = props;
  const [progress, setProgress] = useState("");
  const [trouble, setTrouble] = useState("");
  const [busy, setBusy] = useState(false);
  const nodes = mesh.nodes.filter((node) => node.connected && node.id !== vm.primary);
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const to = String(new FormData(event.currentTarget as HTMLFormElement).get("to") ?? "");
    setBusy(true);
    setTrouble("");
    try {
      await api.move(vm.id, { to, onProgress: setProgress });
      store.refresh();
      onClose();
    } catch (error) {
      setTrouble((error as Error).message);
      setProgress("");
    }
    setBusy(false);
  };
  return (
    <Dialog title={`Move ${vm.name}`} onClose={onClose}>
      <form onSubmit={submit}>
        <p class="hint">It goes on running; whoever is connected notices a short pause.</p>
        <fieldset>
          <legend>To which node?</legend>
          {nodes.map((node, index) => (
            <label key={node.id} class="choice">
              <input type="radio" name="to" value={node.id} defaultChecked={index === 0} />
              <span>{node.name}</span>
              <small>{`${size(node.memory_free_bytes)} free`}</small>
            </label>
          ))}
          {nodes.length === 0 && <p class="empty">No other node is connected.</p>}
        </fieldset>
        <DialogEnd
          {...{ progress, trouble, busy, onClose }}
          words={{ ask: "Move", doing: "Moving…" }}
          disabled={nodes.length === 0}
        />
      </form>
    </Dialog>
  );
}
