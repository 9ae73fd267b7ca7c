// All architectural state of the vCPU in one canonical form: what digests hash, checkpoints keep
// and the differential tests compare. Flags are full RFLAGS; nothing here is a cache.
#pragma once

#include <array>
#include <cstdint>

#include "cpu/fpu_state.h"
#include "machine/position.h"

namespace node_mesh {

struct SegmentSnapshot {
  std::uint16_t selector = 0;
  std::uint64_t base = 0;
  std::uint32_t limit = 0;
  std::uint16_t attributes = 0;  // descriptor bits 40-47 and 52-55, as in VMX access rights
  friend bool operator==(const SegmentSnapshot&, const SegmentSnapshot&) = default;
};

struct TableSnapshot {
  std::uint64_t base = 0;
  std::uint16_t limit = 0;
};

struct CpuSnapshot {
  std::array<std::uint64_t, 16> gpr{};  // RAX RCX RDX RBX RSP RBP RSI RDI R8-R15
  std::uint64_t rip = 0;
  std::uint64_t rflags = 2;
  std::array<SegmentSnapshot, 6> segments{};  // ES CS SS DS FS GS
  SegmentSnapshot tr, ldtr;
  TableSnapshot gdtr, idtr;
  std::uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0;
  std::array<std::uint64_t, 8> dr{};
  std::uint64_t efer = 0, star = 0, lstar = 0, cstar = 0, sfmask = 0, kernel_gs_base = 0;
  std::uint64_t tsc_offset = 0, tsc_aux = 0, pat = 0x0007040600070406, misc_enable = 1;
  std::uint64_t sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
  FpuState fpu;
  Position position;
  bool halted = false;
  std::uint8_t interrupt_shadow = 0;  // 1: the next boundary takes no interrupt (STI, MOV SS)
};

}  // namespace node_mesh
