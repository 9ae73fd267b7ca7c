/** Which node a user means. */
import type { DaemonParts } from "../daemon/daemon.ts";
import { cannot } from "../user_error.ts";

/** A member by its name, its id or the end of its id. */
export function memberOf(
  daemon: DaemonParts,
  asked: { readonly verb: string; readonly name: string },
): string {
  const { mesh, router } = daemon;
  const ids = mesh.membership.members().map(({ id }) => id);
  const { verb, name } = asked;
  const found = ids.filter((id) => id === name || router.nameOf(id) === name);
  const near = found.length > 0 ? found : ids.filter((id) => name.length > 5 && id.endsWith(name));
  const [id] = near;
  if (id !== undefined && near.length === 1) return id;
  const why = id === undefined ? "no member is called that" : "several members are called that";
  throw cannot(verb, name, { why, remedy: "see: node-mesh nodes", kind: "not_found" });
}
