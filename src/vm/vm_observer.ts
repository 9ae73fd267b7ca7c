/** What a member of a VM lets others see while it happens. Observers are quick, and never throw. */
import type { CopyPhase } from "./vm_copy.ts";
import type { VmSpec } from "./vm_spec.ts";

export type VmSight =
  | {
      readonly kind: "role";
      readonly leads: boolean;
      /** Null: nobody is known to lead. */
      readonly leader: string | null;
      readonly term: number;
    }
  | { readonly kind: "phase"; readonly phase: CopyPhase; readonly chunkCount: number }
  /** The first output since this copy went live. */
  | { readonly kind: "output" }
  /** An own proposal was committed. */
  | { readonly kind: "commit"; readonly ms: number };

export type VmObserver = (spec: VmSpec, sight: VmSight) => void;
