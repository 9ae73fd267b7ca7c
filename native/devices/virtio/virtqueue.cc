#include "devices/virtio/virtqueue.h"

#include <algorithm>
#include <array>
#include <bit>

namespace node_mesh {
namespace {

constexpr std::uint16_t descriptor_next = 1, descriptor_writable = 2, descriptor_indirect = 4;
constexpr std::uint16_t no_interrupt = 1;  // of the driver's ring flags
constexpr std::uint64_t descriptor_bytes = 16;

std::uint64_t little_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  }
  return value;
}

std::array<std::byte, 8> bytes_of(std::uint32_t low, std::uint32_t high) {
  std::array<std::byte, 8> bytes;
  for (unsigned i = 0; i < 4; ++i) {
    bytes[i] = static_cast<std::byte>(low >> (8 * i));
    bytes[4 + i] = static_cast<std::byte>(high >> (8 * i));
  }
  return bytes;
}

// Calls with each part of `segments` from `offset` on, until `bytes` are done. Returns how many
// were.
template <class Copy>
std::size_t for_each_part(const std::vector<DescriptorChain::Segment>& segments,
                          std::uint64_t offset, std::size_t bytes, Copy copy) {
  std::size_t done = 0;
  for (const auto& segment : segments) {
    if (done == bytes) break;
    if (offset >= segment.bytes) {
      offset -= segment.bytes;
      continue;
    }
    const std::size_t part = std::min<std::size_t>(segment.bytes - offset, bytes - done);
    if (!copy(segment.gpa + offset, done, part)) break;
    offset = 0;
    done += part;
  }
  return done;
}

}  // namespace

std::size_t DescriptorChain::read(std::uint64_t offset, std::span<std::byte> into) const {
  return for_each_part(readable_, offset, into.size(),
                       [&](std::uint64_t gpa, std::size_t done, std::size_t part) {
                         return dma_->read(gpa, into.subspan(done, part));
                       });
}

std::size_t DescriptorChain::write(std::uint64_t offset, std::span<const std::byte> from) {
  return for_each_part(writable_, offset, from.size(),
                       [&](std::uint64_t gpa, std::size_t done, std::size_t part) {
                         return dma_->write(gpa, from.subspan(done, part));
                       });
}

void VirtQueue::reset() {
  size_ = size_max_;
  descriptors = available = used = 0;
  next_available_ = next_used_ = told_used_ = 0;
  enabled_ = broken_ = event_index_ = false;
}

void VirtQueue::set_size(std::uint16_t size) {
  if (!enabled_ && std::has_single_bit(size) && size <= size_max_) size_ = size;
}

bool VirtQueue::rings_in_memory() const {
  const bool aligned = descriptors % 16 == 0 && available % 2 == 0 && used % 4 == 0;
  return aligned && dma_.contains(descriptors, descriptor_bytes * size_) &&
         dma_.contains(available, 6 + 2ull * size_) && dma_.contains(used, 6 + 8ull * size_);
}

void VirtQueue::enable() {
  if (enabled_) return;
  enabled_ = true;
  if (!rings_in_memory()) broken_ = true;
}

std::uint16_t VirtQueue::read_u16(std::uint64_t gpa) {
  std::array<std::byte, 2> bytes{};
  if (!dma_.read(gpa, bytes)) fail();
  return static_cast<std::uint16_t>(little_endian(bytes));
}

void VirtQueue::write_u16(std::uint64_t gpa, std::uint16_t value) {
  const auto bytes = bytes_of(value, 0);
  if (!dma_.write(gpa, std::span(bytes).first(2))) fail();
}

bool VirtQueue::has_chains(unsigned count) {
  if (!ready()) return false;
  const std::uint16_t newest = read_u16(available + 2);
  const auto waiting = static_cast<std::uint16_t>(newest - next_available_);
  if (waiting > size_) return fail();
  if (waiting >= count) return true;
  if (event_index_) write_u16(available_event_gpa(), newest);
  return false;
}

bool VirtQueue::take(DescriptorChain& chain) {
  if (!has_chains(1)) return false;
  const std::uint16_t head = read_u16(available + 4 + 2ull * (next_available_ % size_));
  if (head >= size_) return fail();
  chain.dma_ = &dma_;
  chain.head_ = head;
  chain.readable_.clear();
  chain.writable_.clear();
  chain.readable_bytes_ = chain.writable_bytes_ = 0;
  if (!read_chain(chain, descriptors, size_, head, false)) return fail();
  if (++taken_ > size_) return fail();
  ++next_available_;
  return true;
}

void VirtQueue::put_back(unsigned chains) {
  next_available_ = static_cast<std::uint16_t>(next_available_ - chains);
  taken_ -= chains;
}

VirtQueue::Descriptor VirtQueue::read_descriptor(std::uint64_t table, std::uint32_t index) {
  std::array<std::byte, descriptor_bytes> raw{};
  if (!dma_.read(table + descriptor_bytes * index, raw)) fail();
  const std::span<const std::byte> bytes = raw;
  return {little_endian(bytes.first(8)),
          static_cast<std::uint32_t>(little_endian(bytes.subspan(8, 4))),
          static_cast<std::uint16_t>(little_endian(bytes.subspan(12, 2))),
          static_cast<std::uint16_t>(little_endian(bytes.subspan(14, 2)))};
}

// Follows one table. A chain that visits more descriptors than the table has goes in a loop.
bool VirtQueue::read_chain(DescriptorChain& chain, std::uint64_t table, std::uint32_t table_size,
                           std::uint32_t first, bool indirect) {
  std::uint32_t index = first;
  for (std::uint32_t visited = 0; visited < table_size; ++visited) {
    const Descriptor descriptor = read_descriptor(table, index);
    if (broken_) return false;
    if (descriptor.flags & descriptor_indirect) {
      // The only descriptor of its chain, or the last one behind direct ones; never nested.
      const std::uint32_t count = descriptor.bytes / descriptor_bytes;
      if (indirect || (descriptor.flags & descriptor_next) != 0) return false;
      if (descriptor.bytes % descriptor_bytes != 0 || count == 0) return false;
      if (count > chain_descriptors_max || !dma_.contains(descriptor.gpa, descriptor.bytes)) {
        return false;
      }
      return read_chain(chain, descriptor.gpa, count, 0, true);
    }
    if (!add_segment(chain, descriptor)) return false;
    if ((descriptor.flags & descriptor_next) == 0) return true;
    index = descriptor.next;
    if (index >= table_size) return false;
  }
  return false;
}

bool VirtQueue::add_segment(DescriptorChain& chain, const Descriptor& descriptor) {
  if (!dma_.contains(descriptor.gpa, descriptor.bytes)) return false;
  const bool writable = (descriptor.flags & descriptor_writable) != 0;
  if (!writable && !chain.writable_.empty()) return false;  // what is read comes first
  auto& segments = writable ? chain.writable_ : chain.readable_;
  std::uint64_t& bytes = writable ? chain.writable_bytes_ : chain.readable_bytes_;
  bytes += descriptor.bytes;
  if (bytes > chain_bytes_max) return false;
  segments.push_back({descriptor.gpa, descriptor.bytes});
  return chain.readable_.size() + chain.writable_.size() <= chain_descriptors_max;
}

void VirtQueue::put_used(const DescriptorChain& chain, std::uint32_t written) {
  if (!ready()) return;
  const std::uint64_t element = used + 4 + 8ull * (next_used_ % size_);
  if (!dma_.write(element, bytes_of(chain.head_, written))) fail();
  ++next_used_;
  write_u16(used + 2, next_used_);
}

bool VirtQueue::take_interrupt_wanted() {
  if (!ready() || next_used_ == told_used_) return false;
  const std::uint16_t before = std::exchange(told_used_, next_used_);
  if (!event_index_) return (read_u16(available) & no_interrupt) == 0;
  const std::uint16_t wanted = read_u16(used_event_gpa());
  return static_cast<std::uint16_t>(next_used_ - wanted - 1) <
         static_cast<std::uint16_t>(next_used_ - before);
}

void VirtQueue::save(StateWriter& out) const {
  for (const std::uint64_t gpa : {descriptors, available, used})
    out.u64(gpa);
  for (const std::uint16_t value : {size_, next_available_, next_used_, told_used_})
    out.u16(value);
  for (const bool flag : {enabled_, broken_, event_index_})
    out.flag(flag);
}

bool VirtQueue::load(StateReader& in) {
  for (std::uint64_t* gpa : {&descriptors, &available, &used})
    *gpa = in.u64();
  for (std::uint16_t* value : {&size_, &next_available_, &next_used_, &told_used_})
    *value = in.u16();
  for (bool* flag : {&enabled_, &broken_, &event_index_})
    *flag = in.flag();
  in.require(std::has_single_bit(size_) && size_ <= size_max_);
  in.require(!enabled_ || broken_ || rings_in_memory());
  return in.ok();
}

}  // namespace node_mesh
