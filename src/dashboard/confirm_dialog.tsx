/** Asks once more before something is done that cannot be undone. */
import { useState } from "preact/hooks";
import { Dialog } from "./dialog.tsx";

export function ConfirmDialog(props: {
  title: string;
  text: string;
  action: string;
  run: () => Promise<unknown>;
  onClose: () => void;
}) {
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState("");
  const run = async (): Promise<void> => {
    setBusy(true);
    setTrouble("");
    try {
      await props.run();
      props.onClose();
    } catch (error) {
      setTrouble((error as Error).message);
    }
    setBusy(false);
  };
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <p>{props.text}</p>
      {trouble !== "" && (
        <p class="trouble" role="alert">
          {trouble}
        </p>
      )}
      <div class="buttons">
        <button type="button" autofocus onClick={props.onClose}>
          Cancel
        </button>
        <button type="button" class="danger" disabled={busy} onClick={run}>
          {busy ? "Working…" : props.action}
        </button>
      </div>
    </Dialog>
  );
}
