#include "cpu/block_cache.h"

#include <cstring>
#include <new>

#include "cpu/mmu.h"
#include "cpu/threading.h"

namespace node_mesh {
namespace {

u64 block_bytes(unsigned slots) {
  const u64 bytes = offsetof(Block, insns) + u64{slots} * sizeof(Insn);
  return (bytes + alignof(Block) - 1) & ~(alignof(Block) - 1);
}

Block* allocate_block(unsigned slots) {
  void* at = ::operator new (block_bytes(slots), std::align_val_t{alignof(Block)});
  return new (at) Block;
}

void free_block(Block* block) {
  ::operator delete (static_cast<void*>(block), std::align_val_t{alignof(Block)});
}

// What the first instruction of a killed block becomes.
void leave_dead_block(Core* c, const Insn* i) {
  const auto* block =
      reinterpret_cast<const Block*>(reinterpret_cast<const u8*>(i) - offsetof(Block, insns));
  c->icount -= block->count;
  c->rip = c->page_va + block->offset;
  NM_LEAVE;
}

u64 granule_mask(u64 first, u64 size) {
  const u64 low = first / 64;
  const u64 high = (first + size - 1) / 64;
  return (~u64{0} >> (63 - high)) & (~u64{0} << low);
}

}  // namespace

BlockCache::BlockCache(Core& core, GuestMemory& memory)
    : core_(core), memory_(memory), buckets_(bucket_count) {}

BlockCache::~BlockCache() {
  kill_everything();
  killed_bytes_ = killed_bytes_max + 1;
  collect();
}

Block* BlockCache::lookup(u64 pa, u8 mode) const {
  Block* block = buckets_[bucket(pa, mode)];
  while (block != nullptr && (block->pa != pa || block->mode != mode))
    block = block->hash_next;
  return block;
}

Block* BlockCache::find(u64 va, bool single) {
  Mmu& mmu = *core_.mmu;
  JumpEntry* entry = jump_entry(&core_, va);
  if (!single && entry->va == va && !entry->block->dead) return entry->block;
  const u64 gfn = mmu.fetch_gfn(va);
  if (!mmu.is_ram(gfn << 12)) raise(&core_, nullptr, vector::ud);  // device memory: all ones
  const auto mode = static_cast<u8>(static_cast<u8>(core_.code_mode) + (single ? block_single : 0));
  Block* block = lookup(gfn << 12 | (va & page_mask), mode);
  if (block != nullptr && block->second_gfn != 0 &&
      mmu.fetch_gfn((va | page_mask) + 1) + 1 != block->second_gfn) {
    kill(block);
    block = nullptr;
  }
  if (block == nullptr) block = make(va, gfn, mode, true);
  if (!single && block->second_gfn == 0) {
    *entry = {va, block};
    mmu.current_set().note_executed(va & ~page_mask);
  }
  return block;
}

Block* BlockCache::link_target(u64 va) {
  const u64 gfn = core_.mmu->fetch_gfn(va);
  const auto mode = static_cast<u8>(core_.code_mode);
  Block* block = lookup(gfn << 12 | (va & page_mask), mode);
  if (block == nullptr) block = make(va, gfn, mode, false);
  return block != nullptr && block->second_gfn == 0 ? block : nullptr;
}

Block* BlockCache::make(u64 va, u64 gfn, u8 mode, bool may_cross) {
  if (live_bytes_ > live_bytes_max || decoder_.stubs_full()) drop_all();
  const u64 offset = va & page_mask;
  const u8* page = reinterpret_cast<const u8*>(memory_.base()) + (gfn << 12);
  const bool single = mode & block_single;
  const auto code_mode = static_cast<CodeMode>(mode & 3);
  DecodedBlock& decoded = decoder_.decode(page, offset, code_mode, single, nullptr);
  u64 second = 0;
  if (decoded.needs_next_page) {
    if (!may_cross) return nullptr;
    const u64 second_gfn = core_.mmu->fetch_gfn((va | page_mask) + 1);
    if (!core_.mmu->is_ram(second_gfn << 12)) raise(&core_, nullptr, vector::ud);
    second = second_gfn + 1;
    decoder_.decode(page, offset, code_mode, single,
                    reinterpret_cast<const u8*>(memory_.base()) + (second_gfn << 12));
  }
  Block* block = allocate_block(decoded.slots);
  block->count = decoded.count;
  block->offset = static_cast<u16>(offset);
  block->mode = mode;
  block->slots = decoded.slots;
  block->pa = gfn << 12 | offset;
  block->second_gfn = second;
  std::memcpy(static_cast<void*>(block->insns), decoded.insns.data(), decoded.slots * sizeof(Insn));
  live_bytes_ += block_bytes(decoded.slots);
  Block*& head = buckets_[bucket(block->pa, mode)];
  block->hash_next = head;
  head = block;
  const u64 in_page = std::min<u64>(decoded.bytes, page_bytes - offset);
  cover(gfn, offset, in_page, block);
  if (second != 0) cover(second - 1, 0, std::max<u64>(decoded.bytes - in_page, 1), block);
  return block;
}

void BlockCache::cover(u64 gfn, u64 first, u64 size, Block* block) {
  CodePage& page = pages_[gfn];
  if (page.blocks.empty()) core_.mmu->mark_code(gfn);
  page.granules |= granule_mask(first, size);
  page.blocks.push_back(block);
}

bool BlockCache::holds_code(u64 gfn, u64 offset, u64 size) const {
  const auto found = pages_.find(gfn);
  return found != pages_.end() && (found->second.granules & granule_mask(offset, size)) != 0;
}

// Takes a block out of the hash and makes it lead out. Pages may still list it.
void BlockCache::kill(Block* block) {
  if (block->dead) return;
  Block** at = &buckets_[bucket(block->pa, block->mode)];
  while (*at != block)
    at = &(*at)->hash_next;
  *at = block->hash_next;
  block->dead = true;
  block->insns[0].fn = leave_dead_block;
  live_bytes_ -= block_bytes(block->slots);
  killed_bytes_ += block_bytes(block->slots);
  killed_.push_back(block);
}

void BlockCache::kill_page(u64 gfn) {
  const auto found = pages_.find(gfn);
  if (found == pages_.end()) return;
  const std::vector<Block*> blocks = std::move(found->second.blocks);
  pages_.erase(found);
  core_.mmu->unmark_code(gfn);
  for (Block* block : blocks) {
    // A block across two pages is listed in both: take it off the other list before it can be
    // freed.
    if (block->second_gfn != 0) {
      const u64 first_gfn = block->pa >> 12;
      const u64 other = first_gfn == gfn ? block->second_gfn - 1 : first_gfn;
      if (const auto page = pages_.find(other); page != pages_.end()) {
        std::erase(page->second.blocks, block);
        if (page->second.blocks.empty()) {
          pages_.erase(page);
          core_.mmu->unmark_code(other);
        }
      }
    }
    kill(block);
  }
}

void BlockCache::kill_everything() {
  while (!pages_.empty())
    kill_page(pages_.begin()->first);
}

// The stub cache may only be emptied when no block can run a stub any more; a handler that makes a
// block (for a link) may sit in a killed block, but goes on to the new one and never back.
void BlockCache::drop_all() {
  kill_everything();
  if (decoder_.stubs_full()) decoder_.clear_stubs();
}

void BlockCache::collect() {
  if (killed_bytes_ <= killed_bytes_max) return;
  core_.mmu->for_each_set([](TranslationSet& set) { set.clear_jumps(); });
  // A killed block that crossed pages may still be listed by them.
  for (auto& [gfn, page] : pages_) {
    std::erase_if(page.blocks, [](const Block* block) { return block->dead; });
  }
  for (Block* block : killed_)
    free_block(block);
  killed_.clear();
  killed_bytes_ = 0;
}

}  // namespace node_mesh
