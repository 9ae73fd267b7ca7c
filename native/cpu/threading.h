// Going from block to block inside the threaded code.
#pragma once

#include "cpu/access.h"
#include "cpu/block_cache.h"

namespace node_mesh {

// Back to the run loop; c->rip and c->icount are exact.
#ifdef NM_TRAMPOLINE
#define NM_LEAVE             \
  do {                       \
    c->trampoline = nullptr; \
    return;                  \
  } while (0)
#else
#define NM_LEAVE return
#endif

// `unexecuted`: how many instructions of the block that is left were counted but did not run.
[[gnu::always_inline]] inline void enter_block(Core* c, const Block* block, u64 unexecuted) {
  const u64 count = c->icount + block->count - unexecuted;
  if (count > c->event.load(std::memory_order_relaxed)) [[unlikely]] {
    c->icount -= unexecuted;
    c->rip = c->page_va + block->offset;
    NM_LEAVE;
  }
  c->icount = count;
  NM_GO(block->insns);
}

[[gnu::always_inline]] inline void branch_to(Core* c, u64 va, u64 unexecuted) {
  const JumpEntry* entry = jump_entry(c, va);
  if (entry->va == va) [[likely]] {
    c->page_va = va & ~page_mask;
    return enter_block(c, entry->block, unexecuted);
  }
  c->icount -= unexecuted;
  c->rip = va;
  NM_LEAVE;
}

// A branch inside the page whose link is not known yet.
void branch_unlinked(Core* c, const Insn* i);

[[gnu::always_inline]] inline void branch_in_page(Core* c, const Insn* i) {
  if (const Block* block = i->link) [[likely]]
    return enter_block(c, block, i->left - 1u);
  return branch_unlinked(c, i);
}

// The guest's time stamp counter in front of `i`; may leave the run first (RunExit::time_read).
u64 read_time_stamp(Core* c, const Insn* i);

inline u64 next_address(const Core* c, const Insn* i) { return c->page_va + i->offset + i->length; }

// Ends a block behind `i`, which is its last instruction.
[[gnu::always_inline]] inline void leave_behind(Core* c, const Insn* i) {
  c->icount -= i->left - 1u;
  c->rip = next_address(c, i);
  NM_LEAVE;
}

}  // namespace node_mesh
