// Guest RAM: one private anonymous mapping at guest-physical 0, with the set of pages written since
// the set was last taken. Nothing outside the CPU's own translation caches keeps pointers into it;
// devices and loaders use the checked accessors, which read each guest value once.
//
// RAM above 3 GiB continues at 4 GiB: the hole between belongs to devices. Whether an address is
// RAM is decided by contains() alone, never by comparing with size_bytes().
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace node_mesh {

inline constexpr std::uint64_t page_bytes = 4096;
inline constexpr std::uint64_t mmio_hole_start = 0xc000'0000;
inline constexpr std::uint64_t mmio_hole_end = 0x1'0000'0000;

class GuestMemory {
 public:
  // `ram_bytes` is a multiple of page_bytes. Errors: the host has not that much address space.
  static std::expected<GuestMemory, std::string> create(std::uint64_t ram_bytes);
  GuestMemory(GuestMemory&&) noexcept;
  GuestMemory& operator=(GuestMemory&&) noexcept;
  ~GuestMemory();

  // One past the highest RAM address (the hole counts, if there is RAM above it).
  std::uint64_t size_bytes() const { return size_bytes_; }
  std::uint64_t page_count() const { return size_bytes_ / page_bytes; }
  bool contains(std::uint64_t gpa, std::uint64_t length) const {
    return gpa <= size_bytes_ && length <= size_bytes_ - gpa &&
           (gpa + length <= mmio_hole_start || gpa >= mmio_hole_end);
  }

  // Raw base for the CPU's translation caches only.
  std::byte* base() const { return base_; }

  // Checked copies; false when any byte lies outside RAM (nothing is copied then).
  bool read(std::uint64_t gpa, std::span<std::byte> into) const;
  bool write(std::uint64_t gpa, std::span<const std::byte> from);

  // Dirty tracking: one byte a page, non-zero = written since take_dirty_pages().
  std::uint8_t* dirty_bytes() { return dirty_.data(); }
  void mark_dirty(std::uint64_t gfn) { dirty_[gfn] = 1; }
  // Asked before the dirty pages are taken: somebody knows of more and marks them.
  void set_dirty_source(std::function<void()> source) { dirty_source_ = std::move(source); }
  std::vector<std::uint64_t> take_dirty_pages();

  // A second set that lives longer, for checkpoints: pages written since it was begun. It may name
  // pages that were not, never leaves out one that was.
  bool written_since_checkpoint(std::uint64_t gfn) const {
    return (dirty_[gfn] | taken_[gfn]) != 0;
  }
  void begin_checkpoint_set();

 private:
  GuestMemory(std::byte* base, std::uint64_t size_bytes);
  std::byte* base_ = nullptr;
  std::uint64_t size_bytes_ = 0;
  std::vector<std::uint8_t> dirty_;
  std::function<void()> dirty_source_;
  std::vector<std::uint8_t> taken_;  // was dirty, and taken, since the checkpoint set was begun
};

}  // namespace node_mesh
