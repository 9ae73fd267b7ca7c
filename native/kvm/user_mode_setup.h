// The control registers and segments that every entry of the vCPU into user mode starts from.
#pragma once

#include <linux/kvm.h>

#include "cpu/core.h"
#include "kvm/monitor_page.h"

namespace node_mesh {

inline kvm_sregs user_mode_sregs(const MonitorPage& monitor, bool trap_time_stamp) {
  kvm_sregs sregs{};
  MonitorPage::set_user_segments(sregs);
  monitor.set_tables(sregs);
  sregs.cr0 = cr0::pe | cr0::mp | cr0::et | cr0::ne | cr0::wp | cr0::am | cr0::pg;
  sregs.cr4 = cr4::pae | cr4::osfxsr | cr4::osxmmexcpt | (trap_time_stamp ? cr4::tsd : 0);
  sregs.efer = efer::sce | efer::lme | efer::lma | efer::nxe;
  sregs.apic_base = 0xfee00900;
  return sregs;
}

inline constexpr std::uint64_t monitor_pages_gpa_alignment = std::uint64_t{1} << 30;

}  // namespace node_mesh
