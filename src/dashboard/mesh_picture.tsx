/**
 * The mesh as a picture: nodes on a ring with their load, links with their latency, and on each
 * node the copies that it holds. The primary's mark is full, a backup's is a ring, a witness' is a
 * square. Says nothing that the tables do not say in words.
 */
import type { NodeView, VmView } from "./api.ts";
import { hueOf } from "./format.ts";
import type { MeshState } from "./store.ts";

/** Of the ring that nodes are on; a small screen has a smaller one, so that words stay readable. */
const rings = { wide: { width: 500, height: 210 }, narrow: { width: 230, height: 190 } } as const;
const narrowScreen = matchMedia("(width < 640px)");
/** Around the nodes: their load, and the marks below them. */
const margin = { side: 90, above: 56, below: 84 };
const nodeRadius = 34;
const loadRadius = 41;
const marksInRow = 6;
const markStep = 17;

type Ring = { readonly width: number; readonly height: number };

interface Placed {
  readonly node: NodeView;
  readonly x: number;
  readonly y: number;
}

export function MeshPicture({ mesh }: { mesh: MeshState }) {
  const ring = narrowScreen.matches ? rings.narrow : rings.wide;
  const placed = place(mesh.nodes, ring);
  const self = placed.find(({ node }) => node.self);
  return (
    <figure class="picture">
      <svg viewBox={viewBox(placed, ring)} role="img" aria-label={inWords(mesh)}>
        {links(placed).map(([a, b]) => (
          <Link key={`${a.node.id} ${b.node.id}`} a={a} b={b} />
        ))}
        {self !== undefined && placed.map((to) => <Latency key={to.node.id} from={self} to={to} />)}
        {placed.map((one) => (
          <Node key={one.node.id} placed={one} vms={mesh.vms} />
        ))}
      </svg>
      <figcaption>
        <span class="key">
          <i class="dot full" /> primary
        </span>
        <span class="key">
          <i class="dot ring" /> backup
        </span>
        <span class="key">
          <i class="dot square" /> witness
        </span>
        <span class="key">
          <i class="dot arc" /> load
        </span>
      </figcaption>
    </figure>
  );
}

/**
 * Evenly on an ellipse, by domain and name: nodes that fail together stand together, and a node
 * keeps its place when another one comes back.
 */
function place(nodes: readonly NodeView[], ring: Ring): Placed[] {
  const keyOf = ({ domain, name }: NodeView): string => `${domain ?? ""} ${name}`;
  const sorted = [...nodes].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  const single = sorted.length === 1;
  return sorted.map((node, index) => {
    const angle = (index / sorted.length) * 2 * Math.PI - Math.PI / 2;
    const x = single ? 0 : Math.cos(angle) * (ring.width / 2);
    const y = single ? 0 : Math.sin(angle) * (ring.height / 2);
    return { node, x, y };
  });
}

/** What is drawn on, and no more, so that the picture stands in its middle. */
function viewBox(placed: readonly Placed[], ring: Ring): string {
  const xs = placed.map(({ x }) => x);
  const ys = placed.map(({ y }) => y);
  const left = Math.min(...xs, -ring.width / 2) - margin.side;
  const right = Math.max(...xs, ring.width / 2) + margin.side;
  const top = Math.min(...ys) - margin.above;
  const bottom = Math.max(...ys) + margin.below;
  return `${left} ${top} ${right - left} ${bottom - top}`;
}

function links(placed: readonly Placed[]): (readonly [Placed, Placed])[] {
  return placed.flatMap((a, index) => placed.slice(index + 1).map((b) => [a, b] as const));
}

function Link({ a, b }: { a: Placed; b: Placed }) {
  const up = a.node.connected && b.node.connected;
  return <line class={up ? "link" : "link down"} x1={a.x} y1={a.y} x2={b.x} y2={b.y} />;
}

function Latency({ from, to }: { from: Placed; to: Placed }) {
  const { node } = to;
  if (node.self || node.rtt_ms === null || !node.connected) return null;
  const x = (from.x + to.x) / 2;
  const y = (from.y + to.y) / 2;
  return (
    <g class="latency" transform={`translate(${x} ${y})`}>
      <rect x={-30} y={-11} width={60} height={22} rx={11} />
      <text y={4}>{`${node.rtt_ms.toFixed(1)} ms`}</text>
    </g>
  );
}

function Node({ placed, vms }: { placed: Placed; vms: readonly VmView[] }) {
  const { node, x, y } = placed;
  const kind = node.self ? "node self" : node.connected ? "node" : "node away";
  const round = 2 * Math.PI * loadRadius;
  const load = Math.min(1, node.load_percent / 100);
  const marks = vms
    .filter(({ state }) => state !== "ended")
    .flatMap((vm) => {
      const member = vm.members.find((one) => one.node === node.id);
      return member === undefined ? [] : [{ vm, member }];
    });
  return (
    <g class={kind} transform={`translate(${x} ${y})`}>
      <circle class="body" r={nodeRadius} />
      <circle class="track" r={loadRadius} />
      {node.connected && (
        <circle
          class={load > 0.85 ? "load high" : "load"}
          r={loadRadius}
          strokeDasharray={`${round * load} ${round}`}
          transform="rotate(-90)"
        />
      )}
      <text class="name" y={node.connected && node.cpus > 0 ? -1 : 5}>
        {shortened(node.name)}
      </text>
      {node.connected && node.cpus > 0 && (
        <text class="fact" y={15}>
          {`${node.load_percent} %`}
        </text>
      )}
      {node.domain !== null && (
        <text class="fact" y={-loadRadius - 8}>
          {node.domain}
        </text>
      )}
      {!node.connected && (
        <text class="fact" y={20}>
          away
        </text>
      )}
      {marks.slice(0, marksInRow * 2).map(({ vm, member }, index) => {
        const row = Math.floor(index / marksInRow);
        const inRow = Math.min(marksInRow, marks.length - row * marksInRow);
        const at = ((index % marksInRow) - (inRow - 1) / 2) * markStep;
        return (
          <g key={vm.id} transform={`translate(${at} ${loadRadius + 17 + row * markStep})`}>
            <Mark vm={vm} role={member.role} isPrimary={vm.primary === node.id} />
          </g>
        );
      })}
      {marks.length > marksInRow * 2 && (
        <text class="fact" y={loadRadius + 17 + 2 * markStep + 6}>
          {`and ${marks.length - marksInRow * 2} more`}
        </text>
      )}
    </g>
  );
}

function Mark({ vm, role, isPrimary }: { vm: VmView; role: string; isPrimary: boolean }) {
  const hue = `hue-${hueOf(vm.id)}`;
  const title = <title>{`${vm.name}: ${isPrimary ? "primary" : role}`}</title>;
  if (role === "witness") {
    return (
      <rect class={`mark witness ${hue}`} x={-5} y={-5} width={10} height={10} rx={2}>
        {title}
      </rect>
    );
  }
  return (
    <circle class={`mark ${isPrimary ? "primary" : "backup"} ${hue}`} r={6}>
      {title}
    </circle>
  );
}

function shortened(name: string): string {
  return name.length > 9 ? `${name.slice(0, 8)}…` : name;
}

function inWords(mesh: MeshState): string {
  const nodes = mesh.nodes.map((node) => {
    const primaries = mesh.vms.filter(({ primary }) => primary === node.id).map(({ name }) => name);
    const runs = primaries.length === 0 ? "" : `, primary of ${primaries.join(", ")}`;
    return `${node.name} ${node.connected ? "connected" : "away"}${runs}`;
  });
  return `The mesh: ${nodes.join("; ")}`;
}
