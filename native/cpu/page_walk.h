// The architecture's four-level page walk as a pure function of guest memory and control registers:
// it reads entries, decides, and changes nothing. Whoever uses the translation sets the accessed
// and dirty bits afterwards (Mmu here; a shadow page table elsewhere).
#pragma once

#include <array>

#include "cpu/types.h"
#include "machine/guest_memory.h"

namespace node_mesh {

inline constexpr unsigned physical_address_bits = 40;  // as CPUID leaf 80000008h says

enum class Access : u8 { read, write, fetch };

namespace pte {
inline constexpr u64 present = 1, writable = 2, user = 4, accessed = 0x20, dirty = 0x40;
inline constexpr u64 large = 0x80, global = 0x100, no_execute = u64{1} << 63;
inline constexpr u64 address = ((u64{1} << physical_address_bits) - 1) & ~page_mask;
inline constexpr u64 reserved = ((u64{1} << 52) - 1) & ~((u64{1} << physical_address_bits) - 1);
}  // namespace pte
namespace pf {
inline constexpr u32 present = 1, write = 2, user = 4, reserved = 8, fetch = 16;
}

struct PagingControl {
  u64 cr3 = 0;
  bool write_protect = false;  // CR0.WP
  bool no_execute = false;     // EFER.NXE
};

struct PageWalk {
  bool ok = false;
  u32 error = 0;  // page fault error code when !ok
  u64 gpa = 0;    // of the byte at `va`
  bool writable =
      false;  // a write at this privilege is permitted (it may still need the dirty bit)
  bool user = false;
  bool executable = false;
  u8 levels = 0;  // entries used, from level 4 down
  struct Step {
    u64 entry_gpa;
    u64 entry;
  };
  std::array<Step, 4> steps{};
  const Step& leaf() const { return steps[levels - 1u]; }
};

PageWalk walk_pages(const GuestMemory& memory, const PagingControl& control, u64 va, Access access,
                    bool user);

}  // namespace node_mesh
