#include "disk/qcow2_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "disk/big_endian.h"
#include "disk/disk_image.h"
#include "machine/format_text.h"

namespace node_mesh {
namespace {

constexpr std::uint32_t version_2_bytes = 72;
constexpr std::uint32_t version_3_bytes = 104;
constexpr std::uint32_t header_bytes_max = 4096;
constexpr std::uint32_t backing_name_bytes_max = 1023;
constexpr std::uint32_t cluster_bits_min = 9;
constexpr std::uint32_t cluster_bits_max = 21;

constexpr std::uint64_t feature_dirty = 1u << 0;  // refcounts may be wrong: they are not used here
constexpr std::uint64_t feature_corrupt = 1u << 1;
constexpr std::uint64_t feature_data_file = 1u << 2;
constexpr std::uint64_t feature_compression = 1u << 3;
constexpr std::uint64_t feature_extended_l2 = 1u << 4;

constexpr std::uint32_t extension_end = 0;
constexpr std::uint32_t extension_backing_format = 0xe2792aca;
constexpr std::uint32_t extension_feature_names = 0x6803f857;
constexpr std::size_t feature_name_bytes = 48;

class HeaderReader {
 public:
  explicit HeaderReader(const WatchedFile& file) : file_(file) {}

  std::expected<Qcow2Header, std::string> read() {
    // Header, extensions and the backing file's name all lie in the first cluster.
    bytes_.resize(static_cast<std::size_t>(
        std::min<std::uint64_t>(file_.size_bytes(), std::uint64_t{1} << cluster_bits_max)));
    if (bytes_.size() < version_2_bytes) return file_.error("its qcow2 header is cut off");
    if (auto got = file_.read(0, bytes_); !got) return std::unexpected(got.error());
    if (auto checked = read_fields(); !checked) return std::unexpected(checked.error());
    if (auto checked = read_extensions(); !checked) return std::unexpected(checked.error());
    if (auto checked = check_features(); !checked) return std::unexpected(checked.error());
    if (auto checked = read_backing_name(); !checked) return std::unexpected(checked.error());
    if (auto checked = check_l1(); !checked) return std::unexpected(checked.error());
    return header_;
  }

 private:
  using Outcome = std::expected<void, std::string>;

  Outcome read_fields() {
    if (big_endian_32(bytes_, 0) != qcow2_magic) return file_.error("it is not a qcow2 image");
    header_.version = big_endian_32(bytes_, 4);
    if (header_.version != 2 && header_.version != 3) {
      return file_.error(format_text("qcow2 version %u is not known; 2 and 3 are",
                                     static_cast<unsigned>(header_.version)));
    }
    header_.cluster_bits = big_endian_32(bytes_, 20);
    if (header_.cluster_bits < cluster_bits_min || header_.cluster_bits > cluster_bits_max) {
      return file_.error("its qcow2 cluster size is out of range");
    }
    const std::uint64_t size = big_endian_64(bytes_, 24);
    if (size > disk_bytes_max) return file_.error("it is larger than 4 TiB");
    header_.size_bytes = (size + sector_bytes - 1) / sector_bytes * sector_bytes;
    const std::uint32_t encryption = big_endian_32(bytes_, 32);
    if (encryption != 0) return file_.error("it is encrypted, which is not supported");
    header_.l1_offset = big_endian_64(bytes_, 40);
    header_bytes_ = version_2_bytes;
    if (header_.version == 2) return {};
    if (bytes_.size() < version_3_bytes) return file_.error("its qcow2 header is cut off");
    incompatible_ = big_endian_64(bytes_, 72);
    header_bytes_ = big_endian_32(bytes_, 100);
    if (header_bytes_ < version_3_bytes || header_bytes_ > header_bytes_max ||
        header_bytes_ % 8 != 0 || header_bytes_ > first_cluster().size()) {
      return file_.error("its qcow2 header has a wrong length");
    }
    return {};
  }

  std::span<const std::byte> first_cluster() const {
    return std::span(bytes_).first(
        static_cast<std::size_t>(std::min<std::uint64_t>(bytes_.size(), header_.cluster_bytes())));
  }

  Outcome read_extensions() {
    const auto cluster = first_cluster();
    std::size_t at = header_bytes_;
    while (at + 8 <= cluster.size()) {
      const std::uint32_t kind = big_endian_32(cluster, at);
      const std::uint32_t length = big_endian_32(cluster, at + 4);
      at += 8;
      if (kind == extension_end) return {};
      if (length > cluster.size() - at) return file_.error("a qcow2 header extension is too long");
      const auto data = cluster.subspan(at, length);
      if (kind == extension_backing_format) {
        header_.backing_format.assign(reinterpret_cast<const char*>(data.data()), data.size());
      }
      if (kind == extension_feature_names) feature_names_ = data;
      at += (std::size_t{length} + 7) / 8 * 8;
    }
    return {};
  }

  std::string feature_name(unsigned bit) const {
    for (std::size_t at = 0; at + feature_name_bytes <= feature_names_.size();
         at += feature_name_bytes) {
      const bool incompatible = feature_names_[at] == std::byte{0};
      if (!incompatible || static_cast<unsigned>(feature_names_[at + 1]) != bit) continue;
      const auto* text = reinterpret_cast<const char*>(feature_names_.data() + at + 2);
      std::string name(text, strnlen(text, feature_name_bytes - 2));
      if (!name.empty()) return "\"" + name + "\"";
    }
    return format_text("number %u", bit);
  }

  Outcome check_features() {
    if ((incompatible_ & feature_corrupt) != 0) return file_.error("it is marked as corrupt");
    if ((incompatible_ & feature_data_file) != 0) {
      return file_.error("it keeps its data in another file, which is not supported");
    }
    if ((incompatible_ & feature_extended_l2) != 0) {
      return file_.error("it has extended L2 entries, which are not supported");
    }
    const std::uint64_t unknown = incompatible_ & ~(feature_dirty | feature_compression);
    if (unknown != 0) {
      return file_.error("it needs the qcow2 feature " +
                         feature_name(static_cast<unsigned>(std::countr_zero(unknown))) +
                         ", which is not known");
    }
    const bool has_kind = header_bytes_ > version_3_bytes && bytes_.size() > version_3_bytes;
    const auto kind = has_kind ? static_cast<std::uint8_t>(bytes_[version_3_bytes]) : 0;
    if (kind > 1) return file_.error("its qcow2 compression is not known; zlib and zstd are");
    if ((kind != 0) != ((incompatible_ & feature_compression) != 0)) {
      return file_.error("its qcow2 header contradicts itself about compression");
    }
    header_.compression = static_cast<Qcow2Header::Compression>(kind);
    return {};
  }

  Outcome read_backing_name() {
    const std::uint64_t offset = big_endian_64(bytes_, 8);
    const std::uint32_t length = big_endian_32(bytes_, 16);
    if (offset == 0 || length == 0) return {};
    const auto cluster = first_cluster();
    if (length > backing_name_bytes_max || offset > cluster.size() ||
        length > cluster.size() - offset) {
      return file_.error("the name of its backing file lies outside its header");
    }
    const auto* text = reinterpret_cast<const char*>(cluster.data() + offset);
    header_.backing_file.assign(text, length);
    if (header_.backing_file.find('\0') != std::string::npos) {
      return file_.error("the name of its backing file has a NUL in it");
    }
    if (header_.backing_format != "raw" && header_.backing_format != "qcow2") {
      return file_.error("it does not say whether its backing file is raw or qcow2");
    }
    return {};
  }

  Outcome check_l1() {
    const std::uint64_t covered = header_.cluster_bytes() * header_.l2_entries();
    const std::uint64_t needed = (header_.size_bytes + covered - 1) / covered;
    const std::uint64_t there = big_endian_32(bytes_, 36);
    if (needed > there) return file_.error("its qcow2 L1 table is too short for its size");
    if (needed * 8 > file_.size_bytes()) return file_.error("its qcow2 L1 table is cut off");
    header_.l1_entries = static_cast<std::uint32_t>(needed);
    if (needed == 0) return {};
    if (header_.l1_offset % header_.cluster_bytes() != 0 || header_.l1_offset == 0 ||
        header_.l1_offset > file_.size_bytes() ||
        needed * 8 > file_.size_bytes() - header_.l1_offset) {
      return file_.error("its qcow2 L1 table lies outside the file");
    }
    return {};
  }

  const WatchedFile& file_;
  std::vector<std::byte> bytes_;
  Qcow2Header header_;
  std::uint32_t header_bytes_ = 0;
  std::uint64_t incompatible_ = 0;
  std::span<const std::byte> feature_names_;
};

}  // namespace

std::expected<Qcow2Header, std::string> read_qcow2_header(const WatchedFile& file) {
  return HeaderReader(file).read();
}

}  // namespace node_mesh
