// Writes pages into packs, for the child of a CheckpointWriter: all its memory is its own mappings.
#pragma once

#include <zstd.h>

#include <cstdint>
#include <cstdio>
#include <expected>

#include "checkpoint/page_table.h"
#include "machine/guest_memory.h"
#include "replay/sha256.h"

namespace node_mesh {

class PackWriter {
 public:
  // Errors are errno of what failed.
  using Outcome = std::expected<void, int>;

  PackWriter(int directory, PageTable& table) : directory_(directory), table_(table) {}
  Outcome prepare();
  // Where the page lies now: in the pack that is being written, or where the same bytes were
  // written before. `gfn` is remembered: its content must not change.
  std::expected<PageTable::Place, int> add(const GuestMemory& memory, std::uint64_t gfn);
  // How many pages may come, for the size of the table of those seen.
  Outcome expect(std::uint64_t page_count);
  Outcome finish();
  // Removes what is half written.
  void abandon();

  std::uint64_t bytes() const { return bytes_; }
  std::uint64_t pages() const { return pages_; }

 private:
  struct Seen {
    std::uint64_t hash;
    std::uint64_t gfn_and_one;  // 0: nothing here
    PageTable::Place place;
  };
  Outcome begin_pack();
  Outcome end_pack();
  Outcome end_block();
  Outcome put(std::span<const std::byte> bytes);

  const int directory_;
  PageTable& table_;
  Mapping block_, packed_, workspace_, seen_memory_;
  std::span<Seen> seen_;
  ZSTD_CCtx* compressor_ = nullptr;
  int file_ = -1;
  char name_[64] = {};
  unsigned file_count_ = 0;
  Sha256Stream hash_;
  std::uint64_t pack_bytes_ = 0;
  std::uint32_t pack_pages_ = 0;
  std::uint32_t in_block_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t pages_ = 0;
};

// The name of a file by its content's hash, without the heap.
struct FileName {
  char text[96];
  FileName(const Sha256& hash, std::string_view suffix);
};

}  // namespace node_mesh
