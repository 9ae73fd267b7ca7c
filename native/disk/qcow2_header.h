// The header of a qcow2 file (versions 2 and 3), read as if an enemy had written it: what follows
// from it is bounded before anything is allocated or read.
#pragma once

#include <cstdint>
#include <expected>
#include <string>

#include "disk/watched_file.h"

namespace node_mesh {

struct Qcow2Header {
  enum class Compression : std::uint8_t { zlib = 0, zstd = 1 };

  std::uint32_t version = 0;
  std::uint32_t cluster_bits = 0;  // 9..21
  std::uint64_t size_bytes = 0;
  std::uint64_t l1_offset = 0;
  std::uint32_t l1_entries = 0;  // as many as the size needs; a file may have more
  Compression compression = Compression::zlib;
  std::string backing_file;    // empty: none
  std::string backing_format;  // "raw" or "qcow2" when there is a backing file

  std::uint64_t cluster_bytes() const { return std::uint64_t{1} << cluster_bits; }
  std::uint64_t l2_entries() const { return cluster_bytes() / 8; }
};

inline constexpr std::uint32_t qcow2_magic = 0x514649fb;  // "QFI" and 0xfb

// Errors are whole sentences that name the file. Refused by name: encryption, external data files,
// extended L2 entries, images marked corrupt, and whatever incompatible feature is not known.
std::expected<Qcow2Header, std::string> read_qcow2_header(const WatchedFile& file);

}  // namespace node_mesh
