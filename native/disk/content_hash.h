// The name of a disk's content: the same for a raw file and a qcow2 file of the same disk, and
// quick for a disk that is mostly empty. It is what a machine's configuration has of each disk.
//
// The disk is cut into pieces of 1 MiB (the last may be shorter). Its name is SHA-256 of: the text
// "node-mesh disk 1\n", the size in bytes (u64 little-endian), and for each piece in order
// BLAKE2b-512 of its bytes, or 64 zero bytes when all of the piece is zeros. (BLAKE2b is three
// times as fast here as SHA-256.)
//
// Why the whole of it and not single clusters as they are read: a table of cluster hashes would
// have to be kept beside each image, and would not help against an image that changes after its
// first read, which only watching its size and time of change finds; and with that watch, hashing
// once is enough. So the name is remembered for a file until its size or time of change are others.
#pragma once

#include <expected>
#include <filesystem>
#include <string>

#include "disk/disk_image.h"
#include "replay/sha256.h"

namespace node_mesh {

inline constexpr std::size_t content_piece_bytes = 1 << 20;

std::expected<Sha256, std::string> disk_content_hash(DiskImage& image);

// The names of disks, remembered in a directory of small files.
class ContentHashCache {
 public:
  // Empty: nothing is remembered.
  explicit ContentHashCache(std::filesystem::path directory) : directory_(std::move(directory)) {}
  // In the user's cache directory, or none for a user without one.
  static ContentHashCache of_user();

  std::expected<Sha256, std::string> hash(DiskImage& image) const;

 private:
  std::filesystem::path directory_;
};

}  // namespace node_mesh
