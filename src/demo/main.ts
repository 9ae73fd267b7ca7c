/** `npm run demo`: the demonstration with the built binary. */
import { join } from "node:path";
import { demo } from "./demo.ts";

if (import.meta.main) {
  const built = join(import.meta.dirname, "../../dist/node-mesh");
  const file = process.env["NODE_MESH_BINARY"] ?? built;
  await demo({ file, args: [] });
}
