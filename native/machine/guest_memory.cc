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
      taken_(size_bytes / page_bytes, std::uint8_t{0}) {}

GuestMemory::GuestMemory(GuestMemory&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)),
      dirty_(std::move(other.dirty_)),
      taken_(std::move(other.taken_)) {}

GuestMemory& GuestMemory::operator=(GuestMemory&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(dirty_, other.dirty_);
  std::swap(taken_, other.taken_);
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
      any |= dirty_[gfn];
    if (any == 0) continue;
    for (std::size_t gfn = first; gfn < last; ++gfn) {
      if (dirty_[gfn] == 0) continue;
      pages.push_back(gfn);
      dirty_[gfn] = 0;
      taken_[gfn] = 1;
    }
  }
  return pages;
}

void GuestMemory::begin_checkpoint_set() { std::ranges::fill(taken_, std::uint8_t{0}); }

}  // namespace node_mesh
