#include "disk/qcow2_image.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "disk/big_endian.h"
#include "machine/check.h"
#include "machine/format_text.h"

namespace node_mesh {
namespace {

constexpr std::uint64_t offset_mask = 0x00ff'ffff'ffff'fe00;  // bits 9..55
constexpr std::uint64_t compressed_flag = 1ull << 62;
constexpr std::uint64_t copied_flag = 1ull << 63;
constexpr std::uint64_t zero_flag = 1;

// The compressed bytes are followed by whatever fills their last sector; a cluster must come out
// whole.
bool inflate_cluster(std::span<const std::byte> from, std::span<std::byte> into) {
  z_stream stream{};
  if (inflateInit2(&stream, -15) != Z_OK) return false;
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(from.data()));
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = reinterpret_cast<Bytef*>(into.data());
  stream.avail_out = static_cast<uInt>(into.size());
  const int result = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  return stream.avail_out == 0 && (result == Z_STREAM_END || result == Z_BUF_ERROR);
}

bool unzstd_cluster(std::span<const std::byte> from, std::span<std::byte> into) {
  const std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream(ZSTD_createDStream(),
                                                                          &ZSTD_freeDStream);
  if (!stream) return false;
  ZSTD_inBuffer input{from.data(), from.size(), 0};
  ZSTD_outBuffer output{into.data(), into.size(), 0};
  while (output.pos < output.size) {
    const std::size_t in_before = input.pos;
    const std::size_t out_before = output.pos;
    const std::size_t result = ZSTD_decompressStream(stream.get(), &output, &input);
    if (ZSTD_isError(result) != 0) return false;
    if (input.pos == in_before && output.pos == out_before) return false;
  }
  return true;
}

}  // namespace

std::expected<std::unique_ptr<DiskImage>, std::string> Qcow2Image::create(
    WatchedFile file, const Qcow2Header& header, std::unique_ptr<DiskImage> backing) {
  std::unique_ptr<Qcow2Image> image(new Qcow2Image(std::move(file), header, std::move(backing)));
  if (auto loaded = image->load_l1(); !loaded) return std::unexpected(loaded.error());
  return image;
}

Qcow2Image::Outcome Qcow2Image::load_l1() {
  std::vector<std::byte> bytes(std::size_t{header_.l1_entries} * 8);
  if (auto got = file_.read(header_.l1_offset, bytes); !got) return got;
  l1_.resize(header_.l1_entries);
  for (std::size_t i = 0; i < l1_.size(); ++i)
    l1_[i] = big_endian_64(bytes, i * 8);
  return {};
}

std::unexpected<std::string> Qcow2Image::bad_entry(std::uint64_t cluster, const char* why) const {
  return file_.error(format_text("the qcow2 tables are damaged: what they say of offset %llu %s",
                                 static_cast<unsigned long long>(cluster * header_.cluster_bytes()),
                                 why));
}

// Null: nothing is allocated there.
std::expected<const Qcow2Image::Table*, std::string> Qcow2Image::l2_table(std::uint64_t l1_index) {
  const std::uint64_t offset = l1_[l1_index] & offset_mask;
  if (offset == 0) return nullptr;
  if (const Table* known = l2_tables_.find(l1_index)) return known;
  const std::uint64_t cluster = l1_index * header_.l2_entries();
  if (offset % header_.cluster_bytes() != 0) return bad_entry(cluster, "is not aligned");
  if (offset > file_.size_bytes() || header_.cluster_bytes() > file_.size_bytes() - offset) {
    return bad_entry(cluster, "lies outside the file");
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(header_.cluster_bytes()));
  if (auto got = file_.read(offset, bytes); !got) return std::unexpected(got.error());
  Table table(bytes.size() / 8);
  for (std::size_t i = 0; i < table.size(); ++i)
    table[i] = big_endian_64(bytes, i * 8);
  return l2_tables_.insert(l1_index, std::move(table));
}

std::expected<Qcow2Image::Mapping, std::string> Qcow2Image::mapping(std::uint64_t cluster) {
  const auto table = l2_table(cluster / header_.l2_entries());
  if (!table) return std::unexpected(table.error());
  if (*table == nullptr) return Mapping{};
  const std::uint64_t entry =
      (**table)[static_cast<std::size_t>(cluster % header_.l2_entries())] & ~copied_flag;
  if ((entry & compressed_flag) != 0) return compressed_mapping(entry, cluster);
  if ((entry & zero_flag) != 0 && header_.version >= 3) return Mapping{Mapping::Kind::zero, 0, 0};
  const std::uint64_t offset = entry & offset_mask;
  if (offset == 0) return Mapping{};
  if (offset % header_.cluster_bytes() != 0) return bad_entry(cluster, "is not aligned");
  // A file may end with the last byte of the disk, in the middle of its last cluster.
  const std::uint64_t needed =
      std::min(header_.cluster_bytes(), size_bytes() - cluster * header_.cluster_bytes());
  if (offset > file_.size_bytes() || needed > file_.size_bytes() - offset) {
    return bad_entry(cluster, "lies outside the file");
  }
  return Mapping{Mapping::Kind::data, offset, 0};
}

std::expected<Qcow2Image::Mapping, std::string> Qcow2Image::compressed_mapping(
    std::uint64_t entry, std::uint64_t cluster) const {
  const unsigned offset_bits = 62 - (header_.cluster_bits - 8);
  const std::uint64_t offset = entry & ((1ull << offset_bits) - 1);
  const std::uint64_t sectors = ((entry & ~compressed_flag) >> offset_bits) + 1;
  if (offset >= file_.size_bytes()) return bad_entry(cluster, "lies outside the file");
  // The count is in sectors; the last one may be cut short by the end of the file.
  const std::uint64_t bytes =
      std::min(sectors * sector_bytes - offset % sector_bytes, file_.size_bytes() - offset);
  return Mapping{Mapping::Kind::compressed, offset, bytes};
}

Qcow2Image::Outcome Qcow2Image::read_backing(std::uint64_t offset, std::span<std::byte> into) {
  const std::uint64_t size = backing_ ? backing_->size_bytes() : 0;
  const auto there =
      offset >= size
          ? 0
          : static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), size - offset));
  if (there < into.size()) std::memset(into.data() + there, 0, into.size() - there);
  if (there == 0) return {};
  return backing_->read(offset, into.first(there));
}

std::expected<const std::vector<std::byte>*, std::string> Qcow2Image::decompressed(
    const Mapping& mapping) {
  if (const auto* known = clusters_.find(mapping.offset)) {
    if (auto same = file_.check_unchanged(); !same) return std::unexpected(same.error());
    return known;
  }
  std::vector<std::byte> packed(static_cast<std::size_t>(mapping.bytes));
  if (auto got = file_.read(mapping.offset, packed); !got) return std::unexpected(got.error());
  std::vector<std::byte> bytes(static_cast<std::size_t>(header_.cluster_bytes()));
  const bool whole = header_.compression == Qcow2Header::Compression::zstd
                         ? unzstd_cluster(packed, bytes)
                         : inflate_cluster(packed, bytes);
  if (!whole) {
    return file_.error(format_text("the compressed data at offset %llu is damaged",
                                   static_cast<unsigned long long>(mapping.offset)));
  }
  return clusters_.insert(mapping.offset, std::move(bytes));
}

Qcow2Image::Outcome Qcow2Image::read(std::uint64_t offset, std::span<std::byte> into) {
  NM_CHECK(offset <= size_bytes() && into.size() <= size_bytes() - offset);
  while (!into.empty()) {
    const std::uint64_t within = offset % header_.cluster_bytes();
    const auto count = static_cast<std::size_t>(
        std::min<std::uint64_t>(into.size(), header_.cluster_bytes() - within));
    const auto piece = into.first(count);
    const auto found = mapping(offset / header_.cluster_bytes());
    if (!found) return std::unexpected(found.error());
    Outcome done;
    if (found->kind == Mapping::Kind::unallocated) done = read_backing(offset, piece);
    if (found->kind == Mapping::Kind::zero) std::memset(piece.data(), 0, count);
    if (found->kind == Mapping::Kind::data) done = file_.read(found->offset + within, piece);
    if (found->kind == Mapping::Kind::compressed) {
      const auto bytes = decompressed(*found);
      if (!bytes) return std::unexpected(bytes.error());
      std::memcpy(piece.data(), (*bytes)->data() + within, count);
    }
    if (!done) return done;
    offset += count;
    into = into.subspan(count);
  }
  return {};
}

std::expected<DiskImage::Extent, std::string> Qcow2Image::extent(std::uint64_t offset) {
  NM_CHECK(offset < size_bytes());
  const std::uint64_t cluster = offset / header_.cluster_bytes();
  const std::uint64_t end = std::min((cluster + 1) * header_.cluster_bytes(), size_bytes());
  const std::uint64_t left = end - offset;
  const std::uint64_t backed = backing_ ? backing_->size_bytes() : 0;
  const auto table = l2_table(cluster / header_.l2_entries());
  if (!table) return std::unexpected(table.error());
  if (*table == nullptr && offset >= backed) {
    const std::uint64_t covered = header_.cluster_bytes() * header_.l2_entries();
    const std::uint64_t table_end = std::min((offset / covered + 1) * covered, size_bytes());
    return Extent{table_end - offset, true};
  }
  const auto found = mapping(cluster);
  if (!found) return std::unexpected(found.error());
  if (found->kind == Mapping::Kind::zero) return Extent{left, true};
  if (found->kind != Mapping::Kind::unallocated) return Extent{left, false};
  if (offset >= backed) return Extent{left, true};
  auto below = backing_->extent(offset);
  if (below) below->bytes = std::min(below->bytes, left);
  return below;
}

}  // namespace node_mesh
