#include "replay/disk_store.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "disk/content_hash.h"
#include "replay/image_store.h"

namespace node_mesh {
namespace {

namespace fs = std::filesystem;
using Outcome = std::expected<void, std::string>;

constexpr std::size_t copy_piece_bytes = 1 << 20;

std::unexpected<std::string> cannot_use(const fs::path& path, const std::string& why,
                                        const std::string& remedy) {
  return std::unexpected("Cannot use disk image \"" + path.string() + "\": " + why + "; " + remedy);
}

// More than `bytes_max` of data, as far as that is known without reading it.
std::expected<bool, std::string> has_more_than(DiskImage& image, std::uint64_t bytes_max) {
  std::uint64_t data = 0;
  for (std::uint64_t at = 0; at < image.size_bytes();) {
    const auto extent = image.extent(at);
    if (!extent) return std::unexpected(extent.error());
    if (!extent->zero) data += extent->bytes;
    if (data > bytes_max) return true;
    at += extent->bytes;
  }
  return false;
}

std::expected<void, int> write_at(int fd, std::uint64_t offset, std::span<const std::byte> bytes) {
  if (::lseek(fd, static_cast<off_t>(offset), SEEK_SET) < 0) return std::unexpected(errno);
  return write_all(fd, bytes);
}

// A raw file with the image's content and holes where it is known to be zeros.
Outcome copy_raw(DiskImage& image, const fs::path& to) {
  auto file = open_file(to, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (!file) return std::unexpected(file.error());
  if (::ftruncate(file->get(), static_cast<off_t>(image.size_bytes())) != 0) {
    return std::unexpected(error_text(errno));
  }
  Bytes piece;
  for (std::uint64_t at = 0; at < image.size_bytes();) {
    const auto extent = image.extent(at);
    if (!extent) return std::unexpected(extent.error());
    const std::uint64_t end = at + extent->bytes;
    if (extent->zero) at = end;
    while (at < end) {
      piece.resize(static_cast<std::size_t>(std::min<std::uint64_t>(copy_piece_bytes, end - at)));
      if (auto got = image.read(at, piece); !got) return got;
      if (auto wrote = write_at(file->get(), at, piece); !wrote) {
        return std::unexpected(error_text(wrote.error()));
      }
      at += piece.size();
    }
  }
  return {};
}

bool clone_file(const fs::path& source, const fs::path& to) {
  auto from = open_file(source, O_RDONLY);
  auto file = open_file(to, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const bool cloned = from && file && ::ioctl(file->get(), FICLONE, from->get()) == 0;
  if (!cloned) ::unlink(to.c_str());
  return cloned;
}

std::expected<DiskKept, std::string> make_part(const NamedDisk& disk, const fs::path& part) {
  std::vector<FileIdentity> files;
  disk.image->add_identity(files);
  const bool alone = files.size() == 1;  // it needs no backing files
  if (alone && clone_file(disk.path, part)) return DiskKept::own;
  std::error_code error;
  const fs::path source = fs::canonical(disk.path, error);
  if (error) return std::unexpected(error_text(error.value()));
  if (alone && ::link(source.c_str(), part.c_str()) == 0) return DiskKept::own;
  const auto large = has_more_than(*disk.image, disk_copy_bytes_max);
  if (!large) return std::unexpected(large.error());
  if (!*large) {
    if (auto copied = copy_raw(*disk.image, part); !copied) return std::unexpected(copied.error());
    return DiskKept::own;
  }
  if (::symlink(source.c_str(), part.c_str()) != 0) return std::unexpected(error_text(errno));
  return DiskKept::linked_to_original;
}

}  // namespace

std::expected<NamedDisk, std::string> open_named_disk(const fs::path& path,
                                                      std::uint64_t size_bytes, bool read_only) {
  auto image = open_disk_image(path);
  if (!image) return std::unexpected(image.error());
  const std::uint64_t own = (*image)->size_bytes();
  if (size_bytes == 0) size_bytes = own;
  if (size_bytes == 0) return cannot_use(path, "it is empty", "give its size: --disk FILE,size=1G");
  if (size_bytes < own) {
    return cannot_use(path, "it has " + std::to_string(own) + " bytes, more than the size given",
                      "a disk can only be made larger");
  }
  auto hash = ContentHashCache::of_user().hash(**image);
  if (!hash) return std::unexpected("Cannot read " + hash.error() + "; name another with --disk");
  return NamedDisk{path, std::move(*image), DiskConfig{*hash, size_bytes, read_only}};
}

std::expected<MachineDisks, std::string> layer_disks(std::vector<NamedDisk> disks,
                                                     const fs::path& scratch) {
  MachineDisks layered;
  for (NamedDisk& disk : disks) {
    auto made = LayeredDisk::create(std::move(disk.image), {.size_bytes = disk.config.size_bytes,
                                                            .scratch_directory = scratch});
    if (!made) return std::unexpected(made.error());
    layered.push_back(std::move(*made));
  }
  return layered;
}

std::expected<MachineDisks, std::string> open_disks(const MachineConfig& config,
                                                    const std::vector<fs::path>& paths,
                                                    const fs::path& scratch) {
  if (paths.size() != config.disks.size()) {
    return std::unexpected("Cannot start: " + std::to_string(config.disks.size()) +
                           " disks need as many images, not " + std::to_string(paths.size()));
  }
  std::vector<NamedDisk> disks;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    const DiskConfig& wanted = config.disks[i];
    auto disk = open_named_disk(paths[i], wanted.size_bytes, wanted.read_only);
    if (!disk) return std::unexpected(disk.error());
    if (disk->config.content != wanted.content) {
      return cannot_use(paths[i], "its content is not what the machine was made with",
                        "put the image with content " + hex_of(wanted.content) + " there");
    }
    disks.push_back(std::move(*disk));
  }
  return layer_disks(std::move(disks), scratch);
}

std::expected<DiskKept, std::string> store_disk(const fs::path& log, const NamedDisk& disk) {
  const fs::path path = image_path(log, disk.config.content);
  std::error_code error;
  fs::create_directory(path.parent_path(), error);
  if (error) return std::unexpected(error_text(error.value()));
  const fs::path part = path.string() + ".part";
  ::unlink(part.c_str());
  auto kept = make_part(disk, part);
  if (kept && ::rename(part.c_str(), path.c_str()) != 0) kept = std::unexpected(error_text(errno));
  ::unlink(part.c_str());
  return kept;
}

std::expected<void, std::string> write_disk(LayeredDisk& disk, const fs::path& to) {
  const auto cannot = [&](const std::string& why) {
    return std::unexpected("Cannot write disk image \"" + to.string() + "\": " + why +
                           "; name another file with --disk-out");
  };
  auto file = open_file(to, O_WRONLY | O_CREAT | O_EXCL, 0644);
  if (!file) return cannot(file.error());
  if (::ftruncate(file->get(), static_cast<off_t>(disk.size_bytes())) != 0) {
    return cannot(error_text(errno));
  }
  Bytes piece;
  const Bytes zeros(copy_piece_bytes);
  for (std::uint64_t at = 0; at < disk.size_bytes(); at += piece.size()) {
    piece.resize(static_cast<std::size_t>(
        std::min<std::uint64_t>(copy_piece_bytes, disk.size_bytes() - at)));
    if (auto got = disk.read(at, piece); !got) return cannot(got.error());
    if (std::equal(piece.begin(), piece.end(), zeros.begin())) continue;
    if (auto wrote = write_at(file->get(), at, piece); !wrote) {
      return cannot(error_text(wrote.error()));
    }
  }
  return {};
}

std::vector<fs::path> disk_paths(const fs::path& log, const MachineConfig& config) {
  std::vector<fs::path> paths;
  for (const DiskConfig& disk : config.disks)
    paths.push_back(image_path(log, disk.content));
  return paths;
}

}  // namespace node_mesh
