// A directory for a test's files that is gone behind it, and files made in it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <random>
#include <string_view>

#include "disk/disk_image.h"
#include "replay/byte_codec.h"

namespace node_mesh::test {

class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(std::string_view name, std::span<const std::byte> bytes) const;

 private:
  std::filesystem::path path_;
};

// From NODE_MESH_SEED, or 1.
std::uint64_t first_seed();
Bytes random_bytes(std::mt19937_64& random, std::size_t count);
Bytes read_all(DiskImage& image);

}  // namespace node_mesh::test
