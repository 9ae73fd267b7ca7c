/** Asks for what a new VM needs, and shows how its making goes. */
import { useRef, useState } from "preact/hooks";
import { api } from "./api.ts";
import { Dialog, DialogEnd } from "./dialog.tsx";
import { type MeshState, store } from "./store.ts";

const mebibyte = 2 ** 20;

export function CreateDialog({ mesh, onClose }: { mesh: MeshState; onClose: () => void }) {
  const [progress, setProgress] = useState("");
  const [trouble, setTrouble] = useState("");
  const [busy, setBusy] = useState(false);
  const key = useRef(crypto.randomUUID());
  const connected = mesh.nodes.filter((node) => node.connected).length;
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    setBusy(true);
    setTrouble("");
    setProgress("asking the node");
    try {
      const vm = await api.create(requestOf(form), { key: key.current, onProgress: setProgress });
      store.refresh();
      onClose();
      location.hash = `#/vm/${vm.id}`;
    } catch (error) {
      setTrouble((error as Error).message);
      setProgress("");
      // What was refused is asked anew.
      key.current = crypto.randomUUID();
    }
    setBusy(false);
  };
  return (
    <Dialog title="New VM" onClose={onClose}>
      <form onSubmit={submit}>
        <Fields connected={connected} />
        <DialogEnd
          {...{ progress, trouble, busy, onClose }}
          words={{ ask: "Start", doing: "Starting…" }}
        />
      </form>
    </Dialog>
  );
}

function Fields({ connected }: { connected: number }) {
  return (
    <>
      <label>
        Name
        <input
          name="name"
          required
          autofocus
          autocomplete="off"
          pattern="[a-z0-9]([a-z0-9\-]{0,38}[a-z0-9])?"
          title="1 to 40 of a-z, 0-9 and -"
        />
      </label>
      <div class="fields">
        <Count name="memory" label="Memory (MiB)" value={256} least={1} most={65_536} />
        <Count name="copies" label="Copies" value={Math.min(2, connected)} least={1} most={7} />
        <Count
          name="witnesses"
          label="Witnesses"
          value={connected >= 3 ? 1 : 0}
          least={0}
          most={6}
        />
      </div>
      <p class="hint">
        {connected >= 3
          ? "2 copies and 1 witness survive the loss of any one of their nodes."
          : "With three nodes or more a VM survives the loss of any one of them."}
      </p>
      <details>
        <summary>Another guest than the default one</summary>
        <Text name="kernel" label="Kernel (a path on this node)" />
        <Text name="initrd" label="Initial RAM disk (a path on this node)" />
        <Text name="cmdline" label="Command line" />
      </details>
    </>
  );
}

function Count(props: { name: string; label: string; value: number; least: number; most: number }) {
  return (
    <label>
      {props.label}
      <input
        type="number"
        name={props.name}
        defaultValue={String(props.value)}
        min={props.least}
        max={props.most}
        required
      />
    </label>
  );
}

function Text({ name, label }: { name: string; label: string }) {
  return (
    <label>
      {label}
      <input name={name} autocomplete="off" spellcheck={false} />
    </label>
  );
}

function requestOf(form: FormData) {
  const text = (name: string): string => String(form.get(name) ?? "").trim();
  const optional = (name: string): string | null => (text(name) === "" ? null : text(name));
  return {
    name: text("name"),
    kernel: optional("kernel"),
    initrd: optional("initrd"),
    cmdline: optional("cmdline"),
    memory_bytes: Number(text("memory")) * mebibyte,
    copies: Number(text("copies")),
    witnesses: Number(text("witnesses")),
    engine: "auto" as const,
  };
}
