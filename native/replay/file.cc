#include "replay/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

namespace node_mesh {

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

std::string error_text(int error_number) {
  std::string text = ::strerror(error_number);
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z' && text != "I/O error") {
    text[0] = static_cast<char>(text[0] - 'A' + 'a');
  }
  return text;
}

std::expected<FileDescriptor, std::string> open_file(const std::filesystem::path& path, int flags,
                                                     unsigned mode) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return std::unexpected(error_text(errno));
  return FileDescriptor(fd);
}

std::expected<Bytes, std::string> read_file(const std::filesystem::path& path,
                                            std::uint64_t bytes_max) {
  auto file = open_file(path, O_RDONLY);
  if (!file) return std::unexpected(file.error());
  struct stat status {};
  if (::fstat(file->get(), &status) != 0) return std::unexpected(error_text(errno));
  if (S_ISDIR(status.st_mode)) return std::unexpected("it is a directory");
  if (!S_ISREG(status.st_mode)) return std::unexpected("it is not a regular file");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > bytes_max) {
    return std::unexpected("it has " + std::to_string(size) + " bytes, more than the " +
                           std::to_string(bytes_max) + " allowed");
  }
  Bytes bytes(static_cast<std::size_t>(size));
  const auto got = read_at(file->get(), 0, bytes);
  if (!got) return std::unexpected(error_text(got.error()));
  bytes.resize(*got);
  return bytes;
}

std::expected<void, int> write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return std::unexpected(errno);
    bytes = bytes.subspan(static_cast<std::size_t>(wrote));
  }
  return {};
}

std::expected<std::size_t, int> read_at(int fd, std::uint64_t offset, std::span<std::byte> into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got =
        ::pread(fd, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::unexpected(errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

}  // namespace node_mesh
