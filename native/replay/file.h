// Whole-file helpers with errors a user can read: an owned descriptor, reading all, writing all.
#pragma once

#include <cerrno>
#include <expected>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "replay/byte_codec.h"

namespace node_mesh {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// "No space left on device" and the like, without the number.
std::string error_text(int error_number);

// Errors: what is wrong with the file, not its name. `bytes_max` bounds what is read.
std::expected<Bytes, std::string> read_file(const std::filesystem::path& path,
                                            std::uint64_t bytes_max);
std::expected<FileDescriptor, std::string> open_file(const std::filesystem::path& path, int flags,
                                                     unsigned mode = 0);
// Retries what a signal interrupted. The number is errno.
std::expected<void, int> write_all(int fd, std::span<const std::byte> bytes);
// Reads up to the length of `into`, fewer only at the end of the file.
std::expected<std::size_t, int> read_at(int fd, std::uint64_t offset, std::span<std::byte> into);

}  // namespace node_mesh
