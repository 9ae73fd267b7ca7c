// A raw disk image: the file's bytes are the disk's. One whose size is no whole number of sectors
// is filled up with zeros.
#pragma once

#include "disk/disk_image.h"
#include "disk/watched_file.h"

namespace node_mesh {

class RawImage final : public DiskImage {
 public:
  static std::expected<std::unique_ptr<DiskImage>, std::string> create(WatchedFile file);
  explicit RawImage(WatchedFile file)
      : file_(std::move(file)),
        size_bytes_((file_.size_bytes() + sector_bytes - 1) / sector_bytes * sector_bytes) {}

  std::uint64_t size_bytes() const override { return size_bytes_; }
  std::expected<void, std::string> read(std::uint64_t offset, std::span<std::byte> into) override;
  std::expected<Extent, std::string> extent(std::uint64_t offset) override;
  void add_identity(std::vector<FileIdentity>& files) const override {
    files.push_back(file_.identity());
  }

 private:
  WatchedFile file_;
  std::uint64_t size_bytes_;
};

}  // namespace node_mesh
