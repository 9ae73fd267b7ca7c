/** A modal dialog of the browser's own: focus, Escape and the rest of the page are its business. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

export function Dialog(props: { title: string; onClose: () => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    ref.current?.showModal();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog ref={ref} onClose={props.onClose} aria-labelledby="dialog-title">
      <h2 id="dialog-title">{props.title}</h2>
      {props.children}
    </dialog>
  );
}

/** How a dialog's work goes, and its two buttons, at the end of its form. */
export function DialogEnd(props: {
  progress: string;
  trouble: string;
  busy: boolean;
  onClose: () => void;
  /** What the button says, before and while it is done. */
  words: { readonly ask: string; readonly doing: string };
  disabled?: boolean;
}) {
  const { progress, trouble, busy, onClose, words } = props;
  return (
    <>
      <p class="progress" role="status">
        {progress}
      </p>
      {trouble !== "" && (
        <p class="trouble" role="alert">
          {trouble}
        </p>
      )}
      <div class="buttons">
        <button type="button" onClick={onClose}>
          {busy ? "Close" : "Cancel"}
        </button>
        <button type="submit" class="primary" disabled={busy || props.disabled === true}>
          {busy ? words.doing : words.ask}
        </button>
      </div>
    </>
  );
}
