// The disks of a machine: opened and checked against the content hashes in its configuration, and
// kept beside a log. An image is not copied when it need not be: a log's images directory gets a
// clone of it where the file system can clone, else a hard link; across file systems a copy, and
// for an image that is too large to copy a symbolic link, of which the user is told.
#pragma once

#include <expected>
#include <filesystem>
#include <string>
#include <vector>

#include "disk/disk_image.h"
#include "disk/layered_disk.h"
#include "machine/machine.h"

namespace node_mesh {

inline constexpr std::uint64_t disk_copy_bytes_max = 1ull << 30;  // of data; holes do not count

// An image that a user named, opened and hashed.
struct NamedDisk {
  std::filesystem::path path;
  std::unique_ptr<DiskImage> image;
  DiskConfig config;
};

// `size_bytes` 0: the image's own. Errors are whole lines.
std::expected<NamedDisk, std::string> open_named_disk(const std::filesystem::path& path,
                                                      std::uint64_t size_bytes, bool read_only);

// A machine's own layers over images that were opened.
std::expected<MachineDisks, std::string> layer_disks(std::vector<NamedDisk> disks,
                                                     const std::filesystem::path& scratch);

// The images of a configuration, one path for each of its disks, with their content checked.
std::expected<MachineDisks, std::string> open_disks(const MachineConfig& config,
                                                    const std::vector<std::filesystem::path>& paths,
                                                    const std::filesystem::path& scratch);

enum class DiskKept : std::uint8_t { own, linked_to_original };
// Keeps the image beside the log, so that disk_paths() finds it.
std::expected<DiskKept, std::string> store_disk(const std::filesystem::path& log,
                                                const NamedDisk& disk);
// Writes the disk as it is now into a new raw file, with holes for zeros.
std::expected<void, std::string> write_disk(LayeredDisk& disk, const std::filesystem::path& to);

std::vector<std::filesystem::path> disk_paths(const std::filesystem::path& log,
                                              const MachineConfig& config);

}  // namespace node_mesh
