#include "replay/image_store.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace node_mesh {
namespace {

namespace fs = std::filesystem;

// Clones where the file system can, so that no second copy takes space.
std::expected<void, std::string> write_copy(const fs::path& to, const fs::path& source,
                                            std::span<const std::byte> bytes) {
  auto target = open_file(to, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (!target) return std::unexpected(target.error());
  if (auto from = open_file(source, O_RDONLY)) {
    if (::ioctl(target->get(), FICLONE, from->get()) == 0) return {};
  }
  if (auto wrote = write_all(target->get(), bytes); !wrote) {
    return std::unexpected(error_text(wrote.error()));
  }
  return {};
}

constexpr const char* where_to_put_it = "put the file with this SHA-256 there; the log needs it";

std::unexpected<std::string> cannot_load(const fs::path& log, const Sha256& name,
                                         const std::string& why, const std::string& remedy) {
  return std::unexpected("Cannot load image \"" + image_path(log, name).string() + "\": " + why +
                         "; " + remedy);
}

}  // namespace

fs::path image_path(const fs::path& log, const Sha256& name) {
  return fs::path(log.string() + ".images") / hex_of(name);
}

std::expected<void, std::string> store_image(const fs::path& log, const Sha256& name,
                                             const fs::path& source,
                                             std::span<const std::byte> bytes) {
  const fs::path path = image_path(log, name);
  std::error_code error;
  fs::create_directory(path.parent_path(), error);
  if (error) return std::unexpected(error_text(error.value()));
  // Under its final name an image is always whole.
  const fs::path part = path.string() + ".part";
  ::unlink(part.c_str());
  if (::link(source.c_str(), part.c_str()) != 0) {
    if (auto copied = write_copy(part, source, bytes); !copied) {
      ::unlink(part.c_str());
      return copied;
    }
  }
  if (::rename(part.c_str(), path.c_str()) != 0) {
    const int number = errno;
    ::unlink(part.c_str());
    return std::unexpected(error_text(number));
  }
  ::unlink(part.c_str());  // rename() leaves it when both are links to one file
  return {};
}

std::expected<Bytes, std::string> read_image(const fs::path& log, const LogReader& reader,
                                             const Sha256& name) {
  if (reader.has_image(name)) {
    auto bytes = reader.read_image(name);
    if (!bytes) return cannot_load(log, name, bytes.error(), "the log that holds it is damaged");
    return bytes;
  }
  auto bytes = read_file(image_path(log, name), image_bytes_max);
  if (!bytes) return cannot_load(log, name, bytes.error(), where_to_put_it);
  return bytes;
}

std::expected<void, std::string> check_image(const fs::path& log, const Sha256& name,
                                             std::span<const std::byte> bytes) {
  if (sha256_of(bytes) == name) return {};
  return cannot_load(log, name, "its content does not match its name", where_to_put_it);
}

}  // namespace node_mesh
