#include "devices/virtio_blk/virtio_blk.h"

#include <algorithm>
#include <cstring>

namespace node_mesh {
namespace {

constexpr std::uint64_t feature_segment_max = 1ull << 2;
constexpr std::uint64_t feature_read_only = 1ull << 5;
constexpr std::uint64_t feature_block_size = 1ull << 6;
constexpr std::uint64_t feature_flush = 1ull << 9;
constexpr std::uint64_t feature_topology = 1ull << 10;
constexpr std::uint64_t feature_discard = 1ull << 13;
constexpr std::uint64_t feature_write_zeroes = 1ull << 14;

enum RequestKind : std::uint32_t {
  request_in = 0,
  request_out = 1,
  request_flush = 4,
  request_get_id = 8,
  request_discard = 11,
  request_write_zeroes = 13
};

constexpr std::size_t header_bytes = 16;
constexpr std::size_t range_bytes = 16;
constexpr std::size_t id_bytes = 20;
constexpr std::size_t config_bytes = 60;
constexpr std::uint32_t segments_max = 254;  // of a request, beside its header and status
constexpr std::uint32_t flag_unmap = 1;

void put(std::span<std::byte> into, std::size_t offset, std::uint64_t value, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i)
    into[offset + i] = static_cast<std::byte>(value >> (8 * i));
}

std::uint64_t get(std::span<const std::byte> from, std::size_t offset, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i)
    value |= static_cast<std::uint64_t>(from[offset + i]) << (8 * i);
  return value;
}

}  // namespace

VirtioBlk::VirtioBlk(unsigned index, LayeredDisk& disk, bool read_only, HostFailure failed)
    : name_("virtio_blk" + std::to_string(index)),
      disk_(disk),
      read_only_(read_only),
      failed_(std::move(failed)),
      config_(config_bytes) {
  put(config_, 0, disk_.size_bytes() / sector_bytes, 8);
  put(config_, 12, segments_max, 4);
  put(config_, 20, sector_bytes, 4);
  // Topology: 8 logical blocks make a physical one (2^3), which is a cluster of the layers.
  put(config_, 24, 3, 1);
  put(config_, 26, 1, 2);
  put(config_, 28, 8, 4);
  put(config_, 36, discard_sectors_max, 4);
  put(config_, 40, discard_ranges_max, 4);
  put(config_, 44, cluster_bytes / sector_bytes, 4);
  put(config_, 48, discard_sectors_max, 4);
  put(config_, 52, discard_ranges_max, 4);
  put(config_, 56, 1, 1);  // write zeroes may unmap
}

std::uint64_t VirtioBlk::features() const {
  const std::uint64_t all =
      feature_segment_max | feature_block_size | feature_flush | feature_topology;
  return read_only_ ? all | feature_read_only : all | feature_discard | feature_write_zeroes;
}

// Nothing in the configuration can be written.
void VirtioBlk::config_write(unsigned, std::byte) {}

// A request never outlives the call that brought it.
void VirtioBlk::reset() {}

void VirtioBlk::notified(unsigned queue, std::uint64_t) {
  VirtQueue& ring = port().queue(queue);
  while (!broken_ && ring.take(chain_))
    serve(chain_);
}

void VirtioBlk::serve(DescriptorChain& chain) {
  VirtQueue& ring = port().queue(0);
  // Without a place for the status there is no way to answer.
  if (chain.writable_bytes() == 0) return ring.break_it();
  std::uint64_t filled = 0;
  const Status status = execute(chain, filled);
  if (broken_) return;
  const auto byte = static_cast<std::byte>(status);
  const std::uint64_t status_at = chain.writable_bytes() - 1;
  chain.write(status_at, std::span(&byte, 1));
  // The bytes in front of the status count only when all of them were filled.
  const std::uint64_t written = filled == status_at ? status_at + 1 : filled;
  ring.put_used(chain, static_cast<std::uint32_t>(written));
}

VirtioBlk::Status VirtioBlk::execute(DescriptorChain& chain, std::uint64_t& filled) {
  std::array<std::byte, header_bytes> header{};
  if (chain.read(0, header) != header.size()) return Status::io_error;
  const std::uint64_t sector = get(header, 8, 8);
  switch (get(header, 0, 4)) {
    case request_in:
      return read(chain, sector, filled);
    case request_out:
      return write(chain, sector);
    case request_flush:
      return Status::ok;
    case request_get_id:
      return give_id(chain, filled);
    case request_discard:
      return erase(chain, false);
    case request_write_zeroes:
      return erase(chain, true);
    default:
      return Status::unsupported;
  }
}

bool VirtioBlk::within(std::uint64_t sector, std::uint64_t bytes) const {
  const std::uint64_t sectors = disk_.size_bytes() / sector_bytes;
  return bytes % sector_bytes == 0 && sector <= sectors && bytes / sector_bytes <= sectors - sector;
}

bool VirtioBlk::done(const LayeredDisk::Outcome& outcome) {
  if (outcome) return true;
  broken_ = true;
  failed_(outcome.error());
  return false;
}

VirtioBlk::Status VirtioBlk::read(DescriptorChain& chain, std::uint64_t sector,
                                  std::uint64_t& filled) {
  const std::uint64_t bytes = chain.writable_bytes() - 1;
  if (bytes > request_bytes_max || !within(sector, bytes)) return Status::io_error;
  buffer_.resize(static_cast<std::size_t>(bytes));
  if (!done(disk_.read(sector * sector_bytes, buffer_))) return Status::io_error;
  filled = chain.write(0, buffer_);
  return Status::ok;
}

VirtioBlk::Status VirtioBlk::write(const DescriptorChain& chain, std::uint64_t sector) {
  const std::uint64_t bytes = chain.readable_bytes() - header_bytes;
  if (read_only_ || bytes > request_bytes_max || !within(sector, bytes)) return Status::io_error;
  buffer_.resize(static_cast<std::size_t>(bytes));
  chain.read(header_bytes, buffer_);
  return done(disk_.write(sector * sector_bytes, buffer_)) ? Status::ok : Status::io_error;
}

VirtioBlk::Status VirtioBlk::erase(const DescriptorChain& chain, bool zeroes) {
  if (read_only_) return Status::io_error;
  const std::uint64_t bytes = chain.readable_bytes() - header_bytes;
  if (bytes % range_bytes != 0 || bytes / range_bytes > discard_ranges_max) {
    return Status::io_error;
  }
  buffer_.resize(static_cast<std::size_t>(bytes));
  chain.read(header_bytes, buffer_);
  // All of them are looked at before the first takes effect.
  for (const bool apply : {false, true}) {
    for (std::size_t at = 0; at < buffer_.size(); at += range_bytes) {
      const std::uint64_t sector = get(buffer_, at, 8);
      const std::uint64_t sectors = get(buffer_, at + 8, 4);
      const std::uint64_t flags = get(buffer_, at + 12, 4);
      if (sectors > discard_sectors_max || !within(sector, sectors * sector_bytes)) {
        return Status::io_error;
      }
      if ((flags & ~std::uint64_t{flag_unmap}) != 0 || (flags != 0 && !zeroes)) {
        return Status::unsupported;
      }
      if (!apply) continue;
      const std::uint64_t offset = sector * sector_bytes;
      const std::uint64_t count = sectors * sector_bytes;
      if (!done(zeroes ? disk_.write_zeros(offset, count) : disk_.discard(offset, count))) {
        return Status::io_error;
      }
    }
  }
  return Status::ok;
}

VirtioBlk::Status VirtioBlk::give_id(DescriptorChain& chain, std::uint64_t& filled) {
  std::array<std::byte, id_bytes> id{};
  const std::string text = "node-mesh-disk" + name_.substr(std::strlen("virtio_blk"));
  std::memcpy(id.data(), text.data(), std::min(text.size(), id.size()));
  const std::uint64_t room = chain.writable_bytes() - 1;
  if (room < id.size()) return Status::io_error;
  filled = chain.write(0, id);
  return Status::ok;
}

// The disk's content stands for itself: a checkpoint restores the disk by its layers.
void VirtioBlk::save(StateWriter& out) const { out.u64(disk_.content_sum()); }

bool VirtioBlk::load(StateReader& in) {
  in.require(in.u64() == disk_.content_sum());
  return in.ok();
}

}  // namespace node_mesh
