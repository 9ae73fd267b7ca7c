// A file that nobody should be writing to, read at offsets. Its size and time of change are
// compared with those at opening behind each read, so that bytes of a file that was overwritten or
// cut off meanwhile are never handed on as the disk's.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <span>
#include <string>

#include "disk/disk_image.h"
#include "replay/file.h"

namespace node_mesh {

class WatchedFile {
 public:
  // Errors say what is wrong with the file, not its name.
  static std::expected<WatchedFile, std::string> open(const std::filesystem::path& path);

  std::uint64_t size_bytes() const { return static_cast<std::uint64_t>(opened_.st_size); }
  const std::filesystem::path& path() const { return path_; }
  int descriptor() const { return file_.get(); }
  const struct stat& status() const { return opened_; }
  FileIdentity identity() const;
  bool is_same_file(const WatchedFile& other) const {
    return opened_.st_dev == other.opened_.st_dev && opened_.st_ino == other.opened_.st_ino;
  }

  // Reads all of `into` or fails with a whole sentence that names the file.
  std::expected<void, std::string> read(std::uint64_t offset, std::span<std::byte> into) const;
  std::expected<void, std::string> check_unchanged() const;
  std::unexpected<std::string> error(const std::string& why) const;

 private:
  WatchedFile(std::filesystem::path path, FileDescriptor file, const struct stat& opened)
      : path_(std::move(path)), file_(std::move(file)), opened_(opened) {}

  std::filesystem::path path_;
  FileDescriptor file_;
  struct stat opened_ {};
};

}  // namespace node_mesh
