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

  // Dirty tracking: one byte a page, non-zero = written since either of the two sets below was
  // taken. Whoever takes a set tells the CPU to forget its writable pages.
  std::uint8_t* dirty_bytes() { return dirty_.data(); }
  void mark_dirty(std::uint64_t gfn) { dirty_[gfn] = 1; }
  // Asked before dirty pages are taken: somebody knows of more and marks them.
  void set_dirty_source(std::function<void()> source) { dirty_source_ = std::move(source); }

  // For digests: pages written since they were last taken.
  std::vector<std::uint64_t> take_dirty_pages();
  bool dirty_for_digest(std::uint64_t gfn) const { return (dirty_[gfn] | for_digest_[gfn]) != 0; }
  void mark_for_digest(std::uint64_t gfn) { for_digest_[gfn] = 1; }

  // For checkpoints: a byte a page, non-zero = written since the set was last taken; at first,
  // since it was all zeros.
  std::vector<std::uint8_t> take_checkpoint_set();
  // What was made of it came to nothing.
  void return_checkpoint_set(const std::vector<std::uint8_t>& set);

 private:
  GuestMemory(std::byte* base, std::uint64_t size_bytes);
  std::byte* base_ = nullptr;
  std::uint64_t size_bytes_ = 0;
  std::vector<std::uint8_t> dirty_;
  std::function<void()> dirty_source_;
  // What was taken out of `dirty_` for one of the sets and belongs to the other too.
  std::vector<std::uint8_t> for_digest_, for_checkpoint_;
};

}  // namespace node_mesh
