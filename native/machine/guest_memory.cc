#include "machine/guest_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "machine/check.h"
#include "machine/format_text.h"

namespace node_mesh {

std::expected<GuestMemory, std::string> GuestMemory::create(std::uint64_t ram_bytes) {
  NM_CHECK(ram_bytes != 0 && ram_bytes % page_bytes == 0);
  // RAM that the device hole displaces continues behind it, so guest-physical addresses stay
  // offsets into one mapping; the hole itself is never touched and costs nothing.
  const std::uint64_t end =
      ram_bytes <= mmio_hole_start ? ram_bytes : ram_bytes + (mmio_hole_end - mmio_hole_start);
  void* base = mmap(nullptr, end, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    return std::unexpected(format_text("Cannot reserve %llu MiB of guest memory: %s; lower --mem",
                                       static_cast<unsigned long long>(ram_bytes >> 20),
                                       std::strerror(errno)));
  }
  return GuestMemory(static_cast<std::byte*>(base), end);
}

GuestMemory::GuestMemory(std::byte* base, std::uint64_t size_bytes)
    : base_(base),
      size_bytes_(size_bytes),
      dirty_(size_bytes / page_bytes, std::uint8_t{0}),
      for_digest_(size_bytes / page_bytes, std::uint8_t{0}),
      for_checkpoint_(size_bytes / page_bytes, std::uint8_t{0}) {}

GuestMemory::GuestMemory(GuestMemory&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)),
      dirty_(std::move(other.dirty_)),
      for_digest_(std::move(other.for_digest_)),
      for_checkpoint_(std::move(other.for_checkpoint_)) {}

GuestMemory& GuestMemory::operator=(GuestMemory&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(dirty_, other.dirty_);
  std::swap(for_digest_, other.for_digest_);
  std::swap(for_checkpoint_, other.for_checkpoint_);
  return *this;
}

GuestMemory::~GuestMemory() {
  if (base_ != nullptr) munmap(base_, size_bytes_);
}

bool GuestMemory::read(std::uint64_t gpa, std::span<std::byte> into) const {
  if (!contains(gpa, into.size())) return false;
  if (!into.empty()) std::memcpy(into.data(), base_ + gpa, into.size());
  return true;
}

bool GuestMemory::write(std::uint64_t gpa, std::span<const std::byte> from) {
  if (!contains(gpa, from.size())) return false;
  if (from.empty()) return true;
  std::memcpy(base_ + gpa, from.data(), from.size());
  const std::uint64_t last_gfn = (gpa + from.size() - 1) / page_bytes;
  for (std::uint64_t gfn = gpa / page_bytes; gfn <= last_gfn; ++gfn)
    mark_dirty(gfn);
  return true;
}

std::vector<std::uint64_t> GuestMemory::take_dirty_pages() {
  if (dirty_source_) dirty_source_();
  std::vector<std::uint64_t> pages;
  for (std::size_t first = 0; first < dirty_.size(); first += 64) {
    // RAM is a multiple of 1 MiB, but this class promises only whole pages.
    const std::size_t last = std::min(first + 64, dirty_.size());
    std::uint8_t any = 0;
    for (std::size_t gfn = first; gfn < last; ++gfn)
      any |= static_cast<std::uint8_t>(dirty_[gfn] | for_digest_[gfn]);
    if (any == 0) continue;
    for (std::size_t gfn = first; gfn < last; ++gfn) {
      if (!dirty_for_digest(gfn)) continue;
      pages.push_back(gfn);
      for_checkpoint_[gfn] |= dirty_[gfn];
      dirty_[gfn] = 0;
      for_digest_[gfn] = 0;
    }
  }
  return pages;
}

std::vector<std::uint8_t> GuestMemory::take_checkpoint_set() {
  if (dirty_source_) dirty_source_();
  std::vector<std::uint8_t> set(dirty_.size());
  std::swap(set, for_checkpoint_);
  for (std::size_t gfn = 0; gfn < set.size(); ++gfn) {
    set[gfn] |= dirty_[gfn];
    for_digest_[gfn] |= dirty_[gfn];
    dirty_[gfn] = 0;
  }
  return set;
}

void GuestMemory::return_checkpoint_set(const std::vector<std::uint8_t>& set) {
  for (std::size_t gfn = 0; gfn < set.size(); ++gfn)
    for_checkpoint_[gfn] |= set[gfn];
}

}  // namespace node_mesh
