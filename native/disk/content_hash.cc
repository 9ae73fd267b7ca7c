#include "disk/content_hash.h"

#include <fcntl.h>
#include <sodium/crypto_generichash_blake2b.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <future>
#include <optional>
#include <vector>

#include "replay/file.h"

namespace node_mesh {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t leaf_bytes = 64;
constexpr std::size_t remembered_max = 256;
// A file may change again within the tick of its time of change and keep it.
constexpr std::uint64_t settled_ns = 2'000'000'000;

using Leaf = std::array<std::byte, leaf_bytes>;

Leaf leaf_of(std::span<const std::byte> piece) {
  Leaf leaf{};
  const bool zero = piece[0] == std::byte{0} &&
                    std::memcmp(piece.data(), piece.data() + 1, piece.size() - 1) == 0;
  if (zero) return leaf;
  crypto_generichash_blake2b(reinterpret_cast<unsigned char*>(leaf.data()), leaf.size(),
                             reinterpret_cast<const unsigned char*>(piece.data()), piece.size(),
                             nullptr, 0);
  return leaf;
}

// Reads one piece while the one before it is being hashed.
class ContentHasher {
 public:
  explicit ContentHasher(DiskImage& image) : image_(image) {}

  std::expected<Sha256, std::string> run() {
    ByteWriter head;
    head.text("node-mesh disk 1\n");
    head.u64(image_.size_bytes());
    hash_.add(head.view());
    for (std::uint64_t at = 0; at < image_.size_bytes(); at += content_piece_bytes) {
      const auto count = static_cast<std::size_t>(
          std::min<std::uint64_t>(content_piece_bytes, image_.size_bytes() - at));
      const auto extent = image_.extent(at);
      if (!extent) return std::unexpected(extent.error());
      if (extent->zero && extent->bytes >= count) {
        take();
        hash_.add(Leaf{});
        continue;
      }
      buffer_ ^= 1;
      Bytes& piece = buffers_[buffer_];
      piece.resize(count);
      if (auto got = image_.read(at, piece); !got) return std::unexpected(got.error());
      take();
      pending_ = std::async(std::launch::async, [&piece] { return leaf_of(piece); });
    }
    take();
    return hash_.finish();
  }

 private:
  void take() {
    if (pending_.valid()) hash_.add(pending_.get());
  }

  DiskImage& image_;
  Sha256Stream hash_;
  std::array<Bytes, 2> buffers_;
  std::size_t buffer_ = 0;
  std::future<Leaf> pending_;  // after the buffers: it waits for what uses them
};

bool settled(const std::vector<FileIdentity>& files) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const auto now_ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u;
  return std::ranges::all_of(
      files, [&](const FileIdentity& file) { return file.changed_ns + settled_ns < now_ns; });
}

std::string name_of(const std::vector<FileIdentity>& files) {
  ByteWriter out;
  out.text("content 1\n");
  for (const FileIdentity& file : files) {
    for (const std::uint64_t word : {file.device, file.inode, file.size_bytes, file.changed_ns})
      out.u64(word);
  }
  return hex_of(sha256_of(out.view()));
}

std::optional<Sha256> read_remembered(const fs::path& path) {
  const auto bytes = read_file(path, sizeof(Sha256));
  Sha256 hash{};
  if (!bytes || bytes->size() != hash.size()) return std::nullopt;
  std::memcpy(hash.data(), bytes->data(), hash.size());
  return hash;
}

void forget_oldest(const fs::path& directory) {
  std::error_code error;
  std::vector<std::pair<fs::file_time_type, fs::path>> known;
  for (const auto& entry : fs::directory_iterator(directory, error))
    known.emplace_back(entry.last_write_time(error), entry.path());
  if (known.size() <= remembered_max) return;
  std::ranges::sort(known);
  known.resize(known.size() - remembered_max);
  for (const auto& [time, path] : known)
    fs::remove(path, error);
}

// Without success nothing is lost but time.
void remember(const fs::path& path, const Sha256& hash) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  const fs::path part = path.string() + "." + std::to_string(::getpid());
  auto file = open_file(part, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (!file) return;
  const bool whole = write_all(file->get(), std::as_bytes(std::span(hash))).has_value();
  if (whole) fs::rename(part, path, error);
  if (!whole || error) fs::remove(part, error);
  forget_oldest(path.parent_path());
}

}  // namespace

std::expected<Sha256, std::string> disk_content_hash(DiskImage& image) {
  return ContentHasher(image).run();
}

ContentHashCache ContentHashCache::of_user() {
  for (const auto& [variable, below] :
       {std::pair("XDG_CACHE_HOME", ""), std::pair("HOME", ".cache")}) {
    const char* value = std::getenv(variable);
    if (value == nullptr || value[0] != '/') continue;
    return ContentHashCache(fs::path(value) / below / "node-mesh" / "disks");
  }
  return ContentHashCache({});
}

std::expected<Sha256, std::string> ContentHashCache::hash(DiskImage& image) const {
  std::vector<FileIdentity> files;
  image.add_identity(files);
  if (directory_.empty() || !settled(files)) return disk_content_hash(image);
  const fs::path path = directory_ / name_of(files);
  if (const auto known = read_remembered(path)) return *known;
  auto hash = disk_content_hash(image);
  if (hash) remember(path, *hash);
  return hash;
}

}  // namespace node_mesh
