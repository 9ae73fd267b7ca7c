// A qcow2 image read-only: its active state, not its snapshots. Reference counts are not looked at,
// since nothing is ever allocated. Tables are checked where they are used: whatever points outside
// the file is an error that names it, never a read elsewhere or a loop.
#pragma once

#include <vector>

#include "disk/disk_image.h"
#include "disk/qcow2_header.h"
#include "disk/recent_cache.h"

namespace node_mesh {

class Qcow2Image final : public DiskImage {
 public:
  // `backing` is what shines through where this file has nothing; may be null.
  static std::expected<std::unique_ptr<DiskImage>, std::string> create(
      WatchedFile file, const Qcow2Header& header, std::unique_ptr<DiskImage> backing);

  std::uint64_t size_bytes() const override { return header_.size_bytes; }
  std::expected<void, std::string> read(std::uint64_t offset, std::span<std::byte> into) override;
  std::expected<Extent, std::string> extent(std::uint64_t offset) override;
  void add_identity(std::vector<FileIdentity>& files) const override {
    files.push_back(file_.identity());
    if (backing_) backing_->add_identity(files);
  }

 private:
  using Outcome = std::expected<void, std::string>;
  using Table = std::vector<std::uint64_t>;
  struct Mapping {
    enum class Kind : std::uint8_t { unallocated, zero, data, compressed };
    Kind kind = Kind::unallocated;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;  // of a compressed cluster
  };

  Qcow2Image(WatchedFile file, const Qcow2Header& header, std::unique_ptr<DiskImage> backing)
      : file_(std::move(file)), header_(header), backing_(std::move(backing)) {}
  Outcome load_l1();
  std::expected<const Table*, std::string> l2_table(std::uint64_t l1_index);
  std::expected<Mapping, std::string> mapping(std::uint64_t cluster);
  std::expected<Mapping, std::string> compressed_mapping(std::uint64_t entry,
                                                         std::uint64_t cluster) const;
  Outcome read_backing(std::uint64_t offset, std::span<std::byte> into);
  std::expected<const std::vector<std::byte>*, std::string> decompressed(const Mapping& mapping);
  std::unexpected<std::string> bad_entry(std::uint64_t cluster, const char* why) const;

  WatchedFile file_;
  Qcow2Header header_;
  std::unique_ptr<DiskImage> backing_;
  Table l1_;
  RecentCache<std::uint64_t, Table, 64> l2_tables_;                 // by L1 index
  RecentCache<std::uint64_t, std::vector<std::byte>, 8> clusters_;  // by offset in the file
};

}  // namespace node_mesh
