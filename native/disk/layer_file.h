// A sealed layer of a disk: clusters that the guest wrote over what lies below, in a file that
// never changes again. Its name is the SHA-256 of its bytes, so equal layers are one file and a
// copy that came from elsewhere can be checked.
//
// FORMAT (little-endian)
//   u64  magic "NMLAYER1"
//   u64  size of the disk in bytes
//   u32  cluster_bytes      u32  0
//   u64  entry_count        the clusters in this layer, by rising number
//   u64  data_count         those of them that are not all zeros
//   entry_count times:
//     u64  cluster number; bit 63: all zeros, no data follows for it
//     u64  XXH3-64 of the cluster's bytes with its number as the seed
//   u64  XXH3-64 of everything before
//   zeros up to a multiple of 4096, then data_count clusters in the order of their entries
//
// CRASH STATES of a directory of layers
//   when the power fails                 what is found         what it means
//   before the file has its name         NAME.part or nothing  no layer; the part is removed by the
//                                                              next write of that layer
//   after rename, before the directory   either of the two     no manifest names it yet, since
//   was synced                                                 write_layer() has not returned
//   after write_layer() returned         the whole layer       a manifest may name it
// The file is synced before it gets its name, so under its name a layer is always whole. A layer
// that no manifest names is garbage for whoever owns the directory.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "disk/watched_file.h"
#include "replay/sha256.h"

namespace node_mesh {

// Measured with disk_bench: sequential transfers do not care between 4 and 64 KiB, but a first
// random write of 4 KiB, the block size of most file systems, is 13 times as fast as with 64 KiB,
// since nothing has to be copied up. The index takes 24 bytes for each cluster that was written.
inline constexpr std::size_t cluster_bytes = 4096;

struct LayerEntry {
  std::uint64_t cluster = 0;
  std::uint64_t hash = 0;
  bool zero = false;
};

std::uint64_t cluster_hash(std::uint64_t cluster, std::span<const std::byte> bytes);

class LayerFile {
 public:
  // Checks everything but the data, which read() checks. Errors are whole sentences.
  static std::expected<LayerFile, std::string> open(const std::filesystem::path& path,
                                                    std::uint64_t disk_bytes);
  const std::vector<LayerEntry>& entries() const { return entries_; }
  // `slot` counts the entries that have data.
  std::expected<void, std::string> read(std::uint64_t slot, std::uint64_t cluster,
                                        std::uint64_t hash, std::span<std::byte> into) const;

 private:
  LayerFile(WatchedFile file, std::vector<LayerEntry> entries, std::uint64_t data_offset)
      : file_(std::move(file)), entries_(std::move(entries)), data_offset_(data_offset) {}
  WatchedFile file_;
  std::vector<LayerEntry> entries_;
  std::uint64_t data_offset_;
};

// Gives the bytes of the entry with that index.
using ClusterSource =
    std::function<std::expected<void, std::string>(std::size_t index, std::span<std::byte> into)>;

// Writes a layer into `directory` and returns its name (in hex, its file name). `entries` are by
// rising cluster number.
std::expected<Sha256, std::string> write_layer(const std::filesystem::path& directory,
                                               std::uint64_t disk_bytes,
                                               std::span<const LayerEntry> entries,
                                               const ClusterSource& source);

// Does the file have the content that its name stands for? Reads all of it.
std::expected<void, std::string> check_layer_name(const std::filesystem::path& path,
                                                  const Sha256& name);

}  // namespace node_mesh
