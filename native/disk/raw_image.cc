#include "disk/raw_image.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "machine/check.h"

namespace node_mesh {

std::expected<std::unique_ptr<DiskImage>, std::string> RawImage::create(WatchedFile file) {
  if (file.size_bytes() > disk_bytes_max) return file.error("it is larger than 4 TiB");
  return std::make_unique<RawImage>(std::move(file));
}

std::expected<void, std::string> RawImage::read(std::uint64_t offset, std::span<std::byte> into) {
  NM_CHECK(offset <= size_bytes_ && into.size() <= size_bytes_ - offset);
  const std::uint64_t in_file =
      offset >= file_.size_bytes()
          ? 0
          : std::min<std::uint64_t>(into.size(), file_.size_bytes() - offset);
  const auto tail = into.subspan(static_cast<std::size_t>(in_file));
  if (!tail.empty()) std::memset(tail.data(), 0, tail.size());
  if (in_file == 0) return {};
  return file_.read(offset, into.first(static_cast<std::size_t>(in_file)));
}

std::expected<DiskImage::Extent, std::string> RawImage::extent(std::uint64_t offset) {
  NM_CHECK(offset < size_bytes_);
  const auto from = static_cast<off_t>(offset);
  const auto end = static_cast<off_t>(size_bytes_);
  const off_t data = ::lseek(file_.descriptor(), from, SEEK_DATA);
  if (data < 0) {
    // Either nothing but a hole follows, or the file system does not know.
    const bool hole = errno == ENXIO;
    return Extent{static_cast<std::uint64_t>(end - from), hole};
  }
  if (data > from) return Extent{static_cast<std::uint64_t>(std::min(data, end) - from), true};
  const off_t hole = ::lseek(file_.descriptor(), from, SEEK_HOLE);
  const off_t until = hole <= from ? end : std::min(hole, end);
  return Extent{static_cast<std::uint64_t>(until - from), false};
}

}  // namespace node_mesh
