#include "disk/layer_file.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "disk/disk_image.h"
#include "machine/check.h"

namespace node_mesh {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t magic = 0x3152'4559'414c'4d4e;  // "NMLAYER1"
constexpr std::uint64_t zero_flag = 1ull << 63;
constexpr std::size_t fixed_bytes = 40;
constexpr std::size_t entry_bytes = 16;
constexpr std::size_t checksum_bytes = 8;
constexpr std::size_t copy_clusters = 64;

std::uint64_t aligned(std::uint64_t bytes) {
  return (bytes + cluster_bytes - 1) / cluster_bytes * cluster_bytes;
}

std::uint64_t checksum(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::uint64_t cluster_count(std::uint64_t disk_bytes) {
  return (disk_bytes + cluster_bytes - 1) / cluster_bytes;
}

// The bytes that are written, hashed on their way.
class LayerOutput {
 public:
  explicit LayerOutput(int fd) : fd_(fd) {}
  std::expected<void, std::string> write(std::span<const std::byte> bytes) {
    hash_.add(bytes);
    if (auto wrote = write_all(fd_, bytes); !wrote) {
      return std::unexpected(error_text(wrote.error()));
    }
    return {};
  }
  Sha256 name() const { return hash_.finish(); }

 private:
  int fd_;
  Sha256Stream hash_;
};

Bytes encode_index(std::uint64_t disk_bytes, std::span<const LayerEntry> entries) {
  const auto data_count = std::ranges::count(entries, false, &LayerEntry::zero);
  ByteWriter out;
  out.u64(magic);
  out.u64(disk_bytes);
  out.u32(cluster_bytes);
  out.u32(0);
  out.u64(entries.size());
  out.u64(static_cast<std::uint64_t>(data_count));
  for (const LayerEntry& entry : entries) {
    out.u64(entry.cluster | (entry.zero ? zero_flag : 0));
    out.u64(entry.hash);
  }
  out.u64(checksum(out.view()));
  Bytes bytes = out.take();
  bytes.resize(static_cast<std::size_t>(aligned(bytes.size())));
  return bytes;
}

std::expected<void, std::string> write_content(LayerOutput& out, std::uint64_t disk_bytes,
                                               std::span<const LayerEntry> entries,
                                               const ClusterSource& source) {
  if (auto wrote = out.write(encode_index(disk_bytes, entries)); !wrote) return wrote;
  Bytes buffer(copy_clusters * cluster_bytes);
  std::size_t filled = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].zero) continue;
    const auto into = std::span(buffer).subspan(filled, cluster_bytes);
    if (auto got = source(i, into); !got) return got;
    // What was read back must be what the guest wrote.
    if (cluster_hash(entries[i].cluster, into) != entries[i].hash) {
      return std::unexpected("the scratch file does not hold what was written to it");
    }
    filled += cluster_bytes;
    if (filled < buffer.size()) continue;
    if (auto wrote = out.write(buffer); !wrote) return wrote;
    filled = 0;
  }
  return out.write(std::span(buffer).first(filled));
}

std::expected<void, std::string> sync_directory(const fs::path& directory) {
  auto opened = open_file(directory, O_RDONLY | O_DIRECTORY);
  if (!opened) return std::unexpected(opened.error());
  if (::fsync(opened->get()) != 0) return std::unexpected(error_text(errno));
  return {};
}

}  // namespace

std::uint64_t cluster_hash(std::uint64_t cluster, std::span<const std::byte> bytes) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), cluster);
}

std::expected<LayerFile, std::string> LayerFile::open(const fs::path& path,
                                                      std::uint64_t disk_bytes) {
  auto file = WatchedFile::open(path);
  if (!file) return std::unexpected("disk layer \"" + path.string() + "\": " + file.error());
  std::array<std::byte, fixed_bytes> head{};
  if (file->size_bytes() < head.size()) return file->error("it is cut off");
  if (auto got = file->read(0, head); !got) return std::unexpected(got.error());
  ByteReader fields(head);
  const bool known = fields.u64("magic") == magic;
  const std::uint64_t size = fields.u64("size");
  const bool same_cluster = fields.u32("cluster_bytes") == cluster_bytes && fields.u32("0") == 0;
  const std::uint64_t entry_count = fields.u64("entry_count");
  const std::uint64_t data_count = fields.u64("data_count");
  if (!known || !same_cluster) return file->error("it is no disk layer of this version");
  if (size != disk_bytes) return file->error("it belongs to a disk of another size");
  if (entry_count > cluster_count(disk_bytes) || data_count > entry_count) {
    return file->error("its index is damaged");
  }
  const std::uint64_t index_bytes = fixed_bytes + entry_count * entry_bytes + checksum_bytes;
  const std::uint64_t data_offset = aligned(index_bytes);
  if (file->size_bytes() != data_offset + data_count * cluster_bytes) {
    return file->error("it is cut off");
  }
  Bytes index(static_cast<std::size_t>(index_bytes));
  if (auto got = file->read(0, index); !got) return std::unexpected(got.error());
  ByteReader reader(std::span<const std::byte>(index).subspan(fixed_bytes));
  std::vector<LayerEntry> entries;
  entries.reserve(static_cast<std::size_t>(entry_count));
  std::uint64_t with_data = 0;
  bool in_order = true;
  for (std::uint64_t i = 0; i < entry_count; ++i) {
    const std::uint64_t word = reader.u64("cluster");
    const LayerEntry entry{word & ~zero_flag, reader.u64("hash"), (word & zero_flag) != 0};
    in_order = in_order && entry.cluster < cluster_count(disk_bytes) &&
               (entries.empty() || entries.back().cluster < entry.cluster);
    with_data += entry.zero ? 0 : 1;
    entries.push_back(entry);
  }
  const auto covered = std::span(index).first(index.size() - checksum_bytes);
  if (reader.u64("checksum") != checksum(covered) || !in_order || with_data != data_count) {
    return file->error("its index is damaged");
  }
  return LayerFile(std::move(*file), std::move(entries), data_offset);
}

std::expected<void, std::string> LayerFile::read(std::uint64_t slot, std::uint64_t cluster,
                                                 std::uint64_t hash,
                                                 std::span<std::byte> into) const {
  NM_CHECK(into.size() == cluster_bytes);
  if (auto got = file_.read(data_offset_ + slot * cluster_bytes, into); !got) return got;
  if (cluster_hash(cluster, into) == hash) return {};
  return file_.error("its data is damaged at offset " +
                     std::to_string(data_offset_ + slot * cluster_bytes));
}

std::expected<Sha256, std::string> write_layer(const fs::path& directory, std::uint64_t disk_bytes,
                                               std::span<const LayerEntry> entries,
                                               const ClusterSource& source) {
  const auto cannot = [&](const std::string& why) {
    return std::unexpected("Cannot write a disk layer to \"" + directory.string() + "\": " + why +
                           "; free some space there");
  };
  // One process writes layers of a disk at a time, so its number makes the name its own.
  const fs::path part = directory / ("layer." + std::to_string(::getpid()) + ".part");
  auto file = open_file(part, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (!file) return cannot(file.error());
  LayerOutput out(file->get());
  auto done = write_content(out, disk_bytes, entries, source);
  if (done && ::fsync(file->get()) != 0) done = std::unexpected(error_text(errno));
  const Sha256 name = out.name();
  if (done && ::rename(part.c_str(), (directory / hex_of(name)).c_str()) != 0) {
    done = std::unexpected(error_text(errno));
  }
  if (done) done = sync_directory(directory);
  if (done) return name;
  ::unlink(part.c_str());
  return cannot(done.error());
}

std::expected<void, std::string> check_layer_name(const fs::path& path, const Sha256& name) {
  auto file = WatchedFile::open(path);
  if (!file) return std::unexpected("disk layer \"" + path.string() + "\": " + file.error());
  Sha256Stream hash;
  Bytes block(1 << 20);
  for (std::uint64_t at = 0; at < file->size_bytes(); at += block.size()) {
    const auto count = std::min<std::uint64_t>(block.size(), file->size_bytes() - at);
    const auto piece = std::span(block).first(static_cast<std::size_t>(count));
    if (auto got = file->read(at, piece); !got) return got;
    hash.add(piece);
  }
  if (hash.finish() == name) return {};
  return file->error("its content does not match its name");
}

}  // namespace node_mesh
