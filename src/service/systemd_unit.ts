/**
 * The systemd unit of a node. A node needs the network, its own directory, and /dev/kvm where it is
 * there: everything else of the machine is taken away from it.
 */

export interface UnitOptions {
  readonly binary: string;
  /** Further words of `node-mesh up`. */
  readonly words: readonly string[];
  /** For one user's own service manager, which cannot take as much away. */
  readonly user: boolean;
  /** Does the machine have the group `kvm`? */
  readonly kvmGroup: boolean;
}

const sandbox = [
  "NoNewPrivileges=yes",
  "LockPersonality=yes",
  "RestrictRealtime=yes",
  "RestrictSUIDSGID=yes",
  "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
  "SystemCallArchitectures=native",
  "UMask=0077",
];

const systemSandbox = [
  "CapabilityBoundingSet=",
  "DevicePolicy=closed",
  "DeviceAllow=/dev/kvm rw",
  "PrivateTmp=yes",
  "ProtectClock=yes",
  "ProtectControlGroups=yes",
  "ProtectHome=yes",
  "ProtectHostname=yes",
  "ProtectKernelLogs=yes",
  "ProtectKernelModules=yes",
  "ProtectKernelTunables=yes",
  "ProtectSystem=strict",
  "RestrictNamespaces=yes",
];

export function systemdUnit(options: UnitOptions): string {
  const { binary, words, user, kvmGroup } = options;
  const data = user ? "%h/.local/share/node-mesh" : "/var/lib/node-mesh";
  const identity = [
    "DynamicUser=yes",
    "StateDirectory=node-mesh",
    "StateDirectoryMode=0700",
    ...(kvmGroup ? ["SupplementaryGroups=kvm"] : []),
  ];
  return [
    "[Unit]",
    "Description=node-mesh: virtual machines that survive the failure of any machine",
    "Documentation=man:node-mesh(1)",
    ...(user ? [] : ["Wants=network-online.target", "After=network-online.target"]),
    "",
    "[Service]",
    `ExecStart=${[binary, "up", "--data", data, ...words].map(quoted).join(" ")}`,
    "Restart=on-failure",
    "RestartSec=2",
    // VMs go on elsewhere while the node ends in order.
    "KillMode=mixed",
    "TimeoutStopSec=15",
    "LimitNOFILE=65536",
    ...(user ? [] : identity),
    ...sandbox,
    ...(user ? [] : systemSandbox),
    "",
    "[Install]",
    `WantedBy=${user ? "default.target" : "multi-user.target"}`,
    "",
  ].join("\n");
}

/** As systemd reads words; its own %h stays what it is. */
function quoted(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  return `"${word.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("$", "$$$$")}"`;
}
