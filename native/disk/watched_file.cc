#include "disk/watched_file.h"

#include <fcntl.h>

namespace node_mesh {

std::expected<WatchedFile, std::string> WatchedFile::open(const std::filesystem::path& path) {
  // Without O_NONBLOCK a pipe would keep us waiting for a writer.
  auto file = open_file(path, O_RDONLY | O_NONBLOCK);
  if (!file) return std::unexpected(file.error());
  struct stat status {};
  if (::fstat(file->get(), &status) != 0) return std::unexpected(error_text(errno));
  if (S_ISDIR(status.st_mode)) return std::unexpected("it is a directory");
  if (!S_ISREG(status.st_mode)) return std::unexpected("it is not a regular file");
  return WatchedFile(path, std::move(*file), status);
}

FileIdentity WatchedFile::identity() const {
  constexpr std::uint64_t second_ns = 1'000'000'000;
  return {opened_.st_dev, opened_.st_ino, size_bytes(),
          static_cast<std::uint64_t>(opened_.st_mtim.tv_sec) * second_ns +
              static_cast<std::uint64_t>(opened_.st_mtim.tv_nsec)};
}

std::unexpected<std::string> WatchedFile::error(const std::string& why) const {
  return std::unexpected("disk image \"" + path_.string() + "\": " + why);
}

std::expected<void, std::string> WatchedFile::read(std::uint64_t offset,
                                                   std::span<std::byte> into) const {
  const auto got = read_at(file_.get(), offset, into);
  if (!got) return error(error_text(got.error()));
  if (auto same = check_unchanged(); !same) return same;
  if (*got != into.size()) return error("it ends before offset " + std::to_string(offset + *got));
  return {};
}

std::expected<void, std::string> WatchedFile::check_unchanged() const {
  struct stat now {};
  if (::fstat(file_.get(), &now) != 0) return error(error_text(errno));
  if (now.st_size < opened_.st_size) return error("it was cut off while in use");
  if (now.st_size != opened_.st_size || now.st_mtim.tv_sec != opened_.st_mtim.tv_sec ||
      now.st_mtim.tv_nsec != opened_.st_mtim.tv_nsec) {
    return error("it was changed while in use");
  }
  return {};
}

}  // namespace node_mesh
