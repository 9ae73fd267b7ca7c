#include "disk/scratch_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "disk/layer_file.h"
#include "machine/check.h"

namespace node_mesh {
namespace {

namespace fs = std::filesystem;

// File systems that cannot make a file without a name get one that loses it at once.
FileDescriptor nameless_file(const fs::path& directory) {
  if (directory.empty()) return {};
  if (auto file = open_file(directory, O_RDWR | O_TMPFILE, 0600)) return std::move(*file);
  std::string name = (directory / ".node-mesh-disk-XXXXXX").string();
  FileDescriptor file(::mkostemp(name.data(), O_CLOEXEC));
  if (file) ::unlink(name.c_str());
  return file;
}

std::unexpected<std::string> scratch_error(const std::string& why) {
  return std::unexpected("the scratch file of a disk: " + why);
}

}  // namespace

std::expected<void, std::string> ScratchFile::open() {
  const char* temporary = std::getenv("TMPDIR");
  for (const fs::path& place :
       {directory_, fs::path(temporary == nullptr ? "" : temporary), fs::path("/var/tmp")}) {
    file_ = nameless_file(place);
    if (file_) return {};
  }
  file_ = FileDescriptor(::memfd_create("node-mesh-disk", MFD_CLOEXEC));
  if (!file_) return scratch_error(error_text(errno));
  return {};
}

std::uint32_t ScratchFile::allocate() {
  if (!free_.empty()) {
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  NM_CHECK(next_ != UINT32_MAX);
  return next_++;
}

std::expected<void, std::string> ScratchFile::write(std::uint32_t slot,
                                                    std::span<const std::byte> bytes) {
  if (!file_) {
    if (auto opened = open(); !opened) return opened;
  }
  auto offset = static_cast<off_t>(std::uint64_t{slot} * cluster_bytes);
  while (!bytes.empty()) {
    const ssize_t wrote = ::pwrite(file_.get(), bytes.data(), bytes.size(), offset);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return scratch_error(error_text(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(wrote));
    offset += wrote;
  }
  return {};
}

std::expected<void, std::string> ScratchFile::read(std::uint32_t slot, std::size_t offset,
                                                   std::span<std::byte> into) const {
  const auto got = read_at(file_.get(), std::uint64_t{slot} * cluster_bytes + offset, into);
  if (!got) return scratch_error(error_text(got.error()));
  if (*got != into.size()) return scratch_error("it was cut off while in use");
  return {};
}

}  // namespace node_mesh
