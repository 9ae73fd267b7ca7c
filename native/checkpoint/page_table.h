// Where each page of guest memory lies in packs. Two of them live in memory that the writer shares
// with its child: the child fills in the next one while the one before it stays as it was.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <utility>

#include "checkpoint/checkpoint_format.h"
#include "replay/sha256.h"

namespace node_mesh {

// Anonymous memory that costs nothing until it is touched.
class Mapping {
 public:
  Mapping() = default;
  // MAP_SHARED: a child writes what its parent reads. Null on failure.
  static Mapping create(std::size_t bytes, int sharing) {
    void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        sharing | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    Mapping mapping;
    if (base != MAP_FAILED) mapping.memory_ = {static_cast<std::byte*>(base), bytes};
    return mapping;
  }
  Mapping(Mapping&& other) noexcept : memory_(std::exchange(other.memory_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(memory_, other.memory_);
    return *this;
  }
  ~Mapping() {
    if (!memory_.empty()) ::munmap(memory_.data(), memory_.size());
  }
  explicit operator bool() const { return !memory_.empty(); }
  std::span<std::byte> bytes() const { return memory_; }

 private:
  std::span<std::byte> memory_;
};

struct PackRecord {
  Sha256 name{};
  std::uint64_t bytes = 0;
  std::uint32_t pages = 0;
  std::uint32_t live = 0;  // pages of memory that lie in it
};

// Plain memory: laid out in a Mapping, never constructed. All zeros is a table of zero pages.
struct PageTable {
  // 0: a page of zeros; else (pack + 1) * pack_pages_max + index.
  using Place = std::uint32_t;
  static Place place_of(std::size_t pack, std::uint32_t index) {
    return static_cast<Place>((pack + 1) * pack_pages_max) + index;
  }
  static std::size_t pack_of(Place place) { return place / pack_pages_max - 1; }
  static std::uint32_t index_of(Place place) { return place % pack_pages_max; }

  static std::size_t bytes_for(std::uint64_t page_count) {
    return sizeof(PageTable) + static_cast<std::size_t>(page_count) * sizeof(Place);
  }
  static PageTable* in(const Mapping& mapping) {
    return reinterpret_cast<PageTable*>(mapping.bytes().data());
  }
  Place* places() { return reinterpret_cast<Place*>(this + 1); }
  const Place* places() const { return reinterpret_cast<const Place*>(this + 1); }

  std::uint64_t pack_count;
  PackRecord packs[packs_max];
};
static_assert(packs_max * pack_pages_max < UINT32_MAX - pack_pages_max);

}  // namespace node_mesh
