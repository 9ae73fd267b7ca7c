// A disk's content as whoever reads it sees it, whatever file format holds it. Read-only: what a
// guest writes goes into layers above (layered_disk.h). An image never gives wrong data: a file
// that was changed or cut off since it was opened is an error from then on, not zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace node_mesh {

inline constexpr std::uint64_t sector_bytes = 512;
// The index of a disk of this size still fits into memory while most of it is unwritten.
inline constexpr std::uint64_t disk_bytes_max = 4ull << 40;

struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size_bytes = 0;
  std::uint64_t changed_ns = 0;  // by the host's wall clock
};

class DiskImage {
 public:
  // `bytes` from an offset on are all zeros, known without reading them, or may be anything.
  struct Extent {
    std::uint64_t bytes = 0;
    bool zero = false;
  };

  virtual ~DiskImage() = default;
  // A whole number of sectors.
  virtual std::uint64_t size_bytes() const = 0;
  // [offset, offset + into.size()) lies within the image. The error says what is wrong with which
  // file.
  virtual std::expected<void, std::string> read(std::uint64_t offset,
                                                std::span<std::byte> into) = 0;
  // At least one byte and at most up to the end; `offset` lies within the image.
  virtual std::expected<Extent, std::string> extent(std::uint64_t offset) = 0;
  // Adds what tells the files that it reads from other versions of them, without reading them.
  virtual void add_identity(std::vector<FileIdentity>& files) const = 0;
};

enum class DiskFormat : std::uint8_t { by_content, raw, qcow2 };

// Opens a raw or qcow2 image. Backing files of a qcow2 image must lie in its own directory. Errors
// are whole lines for the user.
std::expected<std::unique_ptr<DiskImage>, std::string> open_disk_image(
    const std::filesystem::path& path, DiskFormat format = DiskFormat::by_content);

}  // namespace node_mesh
