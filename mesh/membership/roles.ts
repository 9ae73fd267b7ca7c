/** What a member may do. */

/** `lend`: holds copies of VMs. `use`: makes VMs, and acts on its own. `administer`: all else. */
export const meshRoles = ["lend", "use", "administer"] as const;
export type MeshRole = (typeof meshRoles)[number];
