// The part of the MMU that serves an engine which runs user code directly.
#include <algorithm>

#include "cpu/block_cache.h"
#include "cpu/mmu.h"
#include "kvm/user_engine.h"

namespace node_mesh {

std::optional<Mmu::NativePage> Mmu::resolve_native(u64 va, Access access) {
  const PageWalk walk = walk_pages(memory_, control(), va, access, true);
  if (!walk.ok || !is_ram(walk.gpa)) return std::nullopt;
  set_entry_bits(nullptr, walk, access);
  note_tables(va, walk);
  const bool dirty = access == Access::write || (walk.leaf().entry & pte::dirty);
  return NativePage{va & ~page_mask, walk.gpa & ~page_mask, walk.writable && dirty,
                    walk.executable};
}

std::optional<u64> Mmu::look_up_user(u64 va) const {
  const PageWalk walk = walk_pages(memory_, control(), va, Access::read, true);
  if (!walk.ok || !is_ram(walk.gpa)) return std::nullopt;
  return walk.gpa;
}

bool Mmu::release_for_native_write(u64 gfn) {
  if (page_flags_[gfn] & page_has_code) core_.blocks->kill_page(gfn);
  if (page_flags_[gfn] & page_is_scanned) engine_->forbid_execution(gfn);
  return page_flags_[gfn] == 0;
}

void Mmu::mark_scanned(u64 gfn) { restrict_page(gfn, page_is_scanned); }

void Mmu::begin_write_log() {
  written_.clear();
  logging_writes_ = true;
  std::ranges::fill(current_set().write, TlbEntry{});
}

}  // namespace node_mesh
