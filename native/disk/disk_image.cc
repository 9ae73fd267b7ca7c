#include "disk/disk_image.h"

#include <array>
#include <vector>

#include "disk/big_endian.h"
#include "disk/qcow2_image.h"
#include "disk/raw_image.h"

namespace node_mesh {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t chain_length_max = 16;

bool begins_as_qcow2(const WatchedFile& file) {
  std::array<std::byte, 4> magic{};
  return file.size_bytes() >= magic.size() && file.read(0, magic) &&
         big_endian_32(magic, 0) == qcow2_magic;
}

// Opens an image and what it is based on. The files of a chain lie in one directory, and each is
// in it once.
class ChainOpener {
 public:
  explicit ChainOpener(fs::path folder) : folder_(std::move(folder)) {}

  std::expected<std::unique_ptr<DiskImage>, std::string> open(const fs::path& path,
                                                              DiskFormat format) {
    auto file = WatchedFile::open(path);
    if (!file) {
      return std::unexpected("disk image \"" + path.string() + "\": " + file.error());
    }
    for (const auto& [device, inode] : seen_) {
      if (file->status().st_dev == device && file->status().st_ino == inode) {
        return file->error("it is its own backing file");
      }
    }
    if (seen_.size() == chain_length_max) return file->error("its chain of backing files is long");
    seen_.emplace_back(file->status().st_dev, file->status().st_ino);
    if (format == DiskFormat::by_content) {
      format = begins_as_qcow2(*file) ? DiskFormat::qcow2 : DiskFormat::raw;
    }
    if (format == DiskFormat::raw) return RawImage::create(std::move(*file));
    auto header = read_qcow2_header(*file);
    if (!header) return std::unexpected(header.error());
    std::unique_ptr<DiskImage> backing;
    if (!header->backing_file.empty()) {
      auto opened = open_backing(*file, *header);
      if (!opened) return opened;
      backing = std::move(*opened);
    }
    return Qcow2Image::create(std::move(*file), *header, std::move(backing));
  }

 private:
  std::expected<std::unique_ptr<DiskImage>, std::string> open_backing(const WatchedFile& file,
                                                                      const Qcow2Header& header) {
    // Links are followed first, so that none leads out of the directory.
    std::error_code error;
    const fs::path path = fs::canonical(file.path().parent_path() / header.backing_file, error);
    if (error) {
      return file.error("its backing file \"" + header.backing_file +
                        "\" cannot be opened: " + error_text(error.value()));
    }
    if (path.parent_path() != folder_) {
      return file.error("its backing file \"" + header.backing_file +
                        "\" is not in the image's own directory");
    }
    return open(path, header.backing_format == "raw" ? DiskFormat::raw : DiskFormat::qcow2);
  }

  fs::path folder_;
  std::vector<std::pair<dev_t, ino_t>> seen_;
};

}  // namespace

std::expected<std::unique_ptr<DiskImage>, std::string> open_disk_image(const fs::path& path,
                                                                       DiskFormat format) {
  const auto cannot = [](const std::string& why) {
    return std::unexpected("Cannot open " + why + "; name a raw or qcow2 image with --disk");
  };
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) return cannot("disk image \"" + path.string() + "\": " + error_text(error.value()));
  auto image = ChainOpener(real.parent_path()).open(real, format);
  if (!image) return cannot(image.error());
  return image;
}

}  // namespace node_mesh
