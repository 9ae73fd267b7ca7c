/** The page as a whole: head, the part that the address names, and what is said aloud. */
import { useEffect, useState } from "preact/hooks";
import { Card } from "./card.tsx";
import { EventFeed } from "./event_feed.tsx";
import { count } from "./format.ts";
import { Header } from "./header.tsx";
import { MeshPicture } from "./mesh_picture.tsx";
import { NodeTable } from "./node_table.tsx";
import { SignIn } from "./sign_in.tsx";
import { type MeshState, store, useMesh } from "./store.ts";
import { VmList } from "./vm_list.tsx";
import { VmPage } from "./vm_page.tsx";

/** `#/vm/ID`, or the overview. */
function vmOfAddress(): string | null {
  return /^#\/vm\/([0-9a-f]{32})$/.exec(location.hash)?.[1] ?? null;
}

export function App() {
  const mesh = useMesh();
  const [vmId, setVmId] = useState(vmOfAddress());
  useEffect(() => {
    const changed = (): void => {
      setVmId(vmOfAddress());
      window.scrollTo(0, 0);
      document.getElementById("main")?.focus({ preventScroll: true });
    };
    window.addEventListener("hashchange", changed);
    store.start();
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  const vm = mesh.vms.find(({ id }) => id === vmId);
  useEffect(() => {
    document.title = vm === undefined ? "node-mesh" : `${vm.name} · node-mesh`;
  }, [vm?.name]);
  if (!mesh.signedIn) return <SignIn />;
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <Header mesh={mesh} />
      <main id="main" tabIndex={-1}>
        <Lost mesh={mesh} />
        {vmId === null ? <Overview mesh={mesh} /> : <VmPage key={vmId} id={vmId} mesh={mesh} />}
      </main>
      <Announcer mesh={mesh} />
    </>
  );
}

function Overview({ mesh }: { mesh: MeshState }) {
  if (mesh.status === null) return <p class="empty">Asking the node…</p>;
  return (
    <div class="overview">
      <h1 class="unseen">Overview of the mesh</h1>
      <Card title="Mesh" id="mesh" class="wide">
        <MeshPicture mesh={mesh} />
        <NodeTable mesh={mesh} />
      </Card>
      <VmList mesh={mesh} />
      <Card title="What happens" id="events">
        <EventFeed events={mesh.events} />
      </Card>
    </div>
  );
}

function Lost({ mesh }: { mesh: MeshState }) {
  if (mesh.lostSinceMs === null) return null;
  return (
    <div class="notice bad" role="alert">
      <strong>The node does not answer.</strong> What you see is from before. Its VMs go on
      elsewhere; this page goes on when the node is back. On another node: node-mesh dashboard.
    </div>
  );
}

/** Says to a screen reader what others see: VMs that switch, and nodes that come and go. */
function Announcer({ mesh }: { mesh: MeshState }) {
  const spoken = mesh.events.findLast(({ kind }) =>
    ["node.up", "node.down", "vm.primary", "vm.switch", "vm.state"].includes(kind),
  );
  return (
    <div class="unseen" aria-live="polite" role="status">
      {spoken?.text ?? count(mesh.vms.length, "VM")}
    </div>
  );
}
