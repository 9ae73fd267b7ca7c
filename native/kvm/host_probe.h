// What the KVM of this host is and does, found out by trying: a small virtual machine is made, user
// code is run in it, and how its traps arrive is looked at. Decides whether user mode may run
// directly here at all. Keeps nothing open.
#pragma once

#include <cstdint>
#include <expected>
#include <string>

namespace node_mesh {

struct KvmTraits {
  // SYSCALL leaves the privilege level at 3 (PVM): the monitor's pages must be accessible to user
  // code. Otherwise they are the supervisor's.
  bool syscall_stays_in_user = false;
  bool traps_time_stamp = false;  // RDTSC in user mode traps, as CR4.TSD asks
  bool traps_cpuid = false;       // CPUID is answered from the model's table
  bool traps_umip = false;        // SGDT and its kind trap, as CR4.UMIP asks
  std::uint64_t round_trip_ns = 0;

  std::string kind() const { return syscall_stays_in_user ? "pvm" : "hardware"; }
  std::string text() const;
};

// The error says why user mode cannot run directly on this host, in a few words.
std::expected<KvmTraits, std::string> probe_kvm_host();

}  // namespace node_mesh
