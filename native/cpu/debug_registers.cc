#include "cpu/debug_registers.h"

namespace node_mesh {
namespace {

unsigned breakpoint_kind(const Core* c, unsigned n) { return (c->dr[7] >> (16 + n * 4)) & 3; }
bool breakpoint_enabled(const Core* c, unsigned n) { return (c->dr[7] >> (n * 2)) & 3; }
u64 breakpoint_bytes(const Core* c, unsigned n) {
  static constexpr u64 sizes[] = {1, 2, 8, 4};
  return sizes[(c->dr[7] >> (18 + n * 4)) & 3];
}

}  // namespace

void note_data_access(Core* c, u64 va, unsigned size, bool write) {
  if (!breakpoints_enabled(c)) return;
  for (unsigned n = 0; n < 4; ++n) {
    const unsigned kind = breakpoint_kind(c, n);
    const bool wanted = kind == 3 || (kind == 1 && write);
    if (!wanted || !breakpoint_enabled(c, n)) continue;
    const u64 bytes = breakpoint_bytes(c, n);
    const u64 start = c->dr[n] & ~(bytes - 1);
    if (va < start + bytes && start < va + size) c->debug_hits |= u64{1} << n;
  }
}

u64 instruction_breakpoints(const Core* c, u64 rip) {
  u64 hits = 0;
  for (unsigned n = 0; n < 4; ++n) {
    if (breakpoint_enabled(c, n) && breakpoint_kind(c, n) == 0 && c->dr[n] == rip) {
      hits |= u64{1} << n;
    }
  }
  return hits;
}

}  // namespace node_mesh
