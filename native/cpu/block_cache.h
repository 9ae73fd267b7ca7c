// Decoded blocks by physical address, and which bytes of which guest page they were decoded from.
// A block stays reachable (through links and jump entries) after it was killed: its first handler
// then leads back to the run loop, and its memory is freed at a safe point. It never runs anything.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "cpu/core.h"
#include "cpu/decode.h"

namespace node_mesh {

class BlockCache {
 public:
  BlockCache(Core& core, GuestMemory& memory);
  ~BlockCache();

  // The block that starts at linear address `va`; fetch faults unwind. A single block holds just
  // one instruction and is for the run loop alone.
  Block* find(u64 va, bool single);
  // The block at `offset` of the page that `va` lies in, for a link from inside that page; null
  // when it cannot be linked.
  Block* link_target(u64 va);

  bool holds_code(u64 gfn, u64 offset, u64 size) const;
  // Calls `callback(offset)` for each block of 64-bit code that begins in the page.
  template <class Callback>
  void for_each_start(u64 gfn, Callback callback) const {
    const auto found = pages_.find(gfn);
    if (found == pages_.end()) return;
    for (const Block* block : found->second.blocks) {
      const bool code64 = (block->mode & 3) == static_cast<u8>(CodeMode::code64);
      if (!block->dead && code64 && block->pa >> 12 == gfn) callback(block->offset);
    }
  }
  void kill_page(u64 gfn);
  void kill_everything();
  // Frees what was killed when that is much. Only called between blocks.
  void collect();

 private:
  struct CodePage {
    u64 granules = 0;  // which 64-byte pieces hold decoded bytes
    std::vector<Block*> blocks;
  };
  static constexpr u64 bucket_count = u64{1} << 17;
  // Killed blocks wait for a safe point; live ones are dropped altogether at the cap.
  static constexpr u64 killed_bytes_max = u64{16} << 20;
  static constexpr u64 live_bytes_max = u64{192} << 20;

  Block* lookup(u64 pa, u8 mode) const;
  // Null when the first instruction reaches into the next page, whose fetch may fault, and
  // `may_cross` is false.
  Block* make(u64 va, u64 gfn, u8 mode, bool may_cross);
  void cover(u64 gfn, u64 first, u64 size, Block* block);
  void kill(Block* block);
  void drop_all();
  static u64 bucket(u64 pa, u8 mode) {
    return ((pa ^ (pa >> 17)) + mode * 0x4321u) & (bucket_count - 1);
  }

  Core& core_;
  GuestMemory& memory_;
  Decoder decoder_;
  std::vector<Block*> buckets_;
  std::unordered_map<u64, CodePage> pages_;
  std::vector<Block*> killed_;
  u64 killed_bytes_ = 0;
  u64 live_bytes_ = 0;
};

[[gnu::always_inline]] inline JumpEntry* jump_entry(const Core* c, u64 va) {
  return reinterpret_cast<JumpEntry*>(reinterpret_cast<u8*>(c->jumps.entries) +
                                      jump_offset(va, c->jumps.mask));
}

}  // namespace node_mesh
