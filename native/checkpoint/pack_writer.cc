#include "checkpoint/pack_writer.h"

#define ZSTD_STATIC_LINKING_ONLY
#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "replay/file.h"

namespace node_mesh {
namespace {

constexpr int compression_level = 1;  // what a busy machine can afford
constexpr std::size_t block_bytes = block_pages * page_bytes;

}  // namespace

FileName::FileName(const Sha256& hash, std::string_view suffix) {
  constexpr char digits[] = "0123456789abcdef";
  char* at = text;
  for (const std::uint8_t byte : hash) {
    *at++ = digits[byte >> 4];
    *at++ = digits[byte & 15];
  }
  std::memcpy(at, suffix.data(), suffix.size());
  at[suffix.size()] = '\0';
}

PackWriter::Outcome PackWriter::prepare() {
  block_ = Mapping::create(block_bytes, MAP_PRIVATE);
  packed_ = Mapping::create(ZSTD_compressBound(block_bytes), MAP_PRIVATE);
  workspace_ = Mapping::create(ZSTD_estimateCCtxSize(compression_level), MAP_PRIVATE);
  if (!block_ || !packed_ || !workspace_) return std::unexpected(ENOMEM);
  compressor_ = ZSTD_initStaticCCtx(workspace_.bytes().data(), workspace_.bytes().size());
  if (compressor_ == nullptr) return std::unexpected(ENOMEM);
  return {};
}

PackWriter::Outcome PackWriter::expect(std::uint64_t page_count) {
  const std::size_t slots = std::bit_ceil(static_cast<std::size_t>(page_count) * 2 + 1);
  seen_memory_ = Mapping::create(slots * sizeof(Seen), MAP_PRIVATE);
  if (!seen_memory_) return std::unexpected(ENOMEM);
  seen_ = {reinterpret_cast<Seen*>(seen_memory_.bytes().data()), slots};
  return {};
}

std::expected<PageTable::Place, int> PackWriter::add(const GuestMemory& memory, std::uint64_t gfn) {
  const std::byte* page = memory.base() + gfn * page_bytes;
  const std::uint64_t hash = XXH3_64bits(page, page_bytes);
  std::size_t slot = static_cast<std::size_t>(hash) & (seen_.size() - 1);
  for (; seen_[slot].gfn_and_one != 0; slot = (slot + 1) & (seen_.size() - 1)) {
    if (seen_[slot].hash != hash) continue;
    // A guest can make hashes collide; only equal bytes are the same page.
    const std::byte* other = memory.base() + (seen_[slot].gfn_and_one - 1) * page_bytes;
    if (std::memcmp(page, other, page_bytes) == 0) return seen_[slot].place;
  }
  if (file_ < 0) {
    if (auto begun = begin_pack(); !begun) return std::unexpected(begun.error());
  }
  const auto place = PageTable::place_of(table_.pack_count, pack_pages_);
  seen_[slot] = {hash, gfn + 1, place};
  std::memcpy(block_.bytes().data() + in_block_ * page_bytes, page, page_bytes);
  ++pack_pages_;
  ++pages_;
  if (++in_block_ == block_pages) {
    if (auto ended = end_block(); !ended) return std::unexpected(ended.error());
  }
  if (pack_pages_ == pack_pages_max) {
    if (auto ended = end_pack(); !ended) return std::unexpected(ended.error());
  }
  return place;
}

PackWriter::Outcome PackWriter::finish() { return file_ < 0 ? Outcome() : end_pack(); }

void PackWriter::abandon() {
  if (file_ >= 0) ::unlinkat(directory_, name_, 0);
}

PackWriter::Outcome PackWriter::begin_pack() {
  if (table_.pack_count == packs_max) return std::unexpected(EFBIG);
  std::snprintf(name_, sizeof name_, "%.*s%d-%u", static_cast<int>(unfinished_prefix.size()),
                unfinished_prefix.data(), static_cast<int>(::getpid()), file_count_++);
  file_ = ::openat(directory_, name_, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file_ < 0) return std::unexpected(errno);
  hash_ = Sha256Stream();
  pack_bytes_ = 0;
  pack_pages_ = 0;
  return put(std::as_bytes(std::span(pack_magic)));
}

PackWriter::Outcome PackWriter::end_block() {
  const auto from = block_.bytes().first(in_block_ * page_bytes);
  const std::size_t size =
      ZSTD_compressCCtx(compressor_, packed_.bytes().data(), packed_.bytes().size(), from.data(),
                        from.size(), compression_level);
  if (ZSTD_isError(size)) return std::unexpected(EIO);
  in_block_ = 0;
  std::uint8_t length[4];
  for (unsigned i = 0; i < 4; ++i)
    length[i] = static_cast<std::uint8_t>(size >> (8 * i));
  if (auto wrote = put(std::as_bytes(std::span(length))); !wrote) return wrote;
  return put(packed_.bytes().first(size));
}

PackWriter::Outcome PackWriter::put(std::span<const std::byte> bytes) {
  hash_.add(bytes);
  pack_bytes_ += bytes.size();
  return write_all(file_, bytes);
}

PackWriter::Outcome PackWriter::end_pack() {
  if (in_block_ != 0) {
    if (auto ended = end_block(); !ended) return ended;
  }
  if (::fsync(file_) != 0) return std::unexpected(errno);
  ::close(file_);
  file_ = -1;
  const Sha256 hash = hash_.finish();
  const FileName name(hash, pack_suffix);
  if (::renameat(directory_, name_, directory_, name.text) != 0) return std::unexpected(errno);
  table_.packs[table_.pack_count++] = {hash, pack_bytes_, pack_pages_, 0};
  bytes_ += pack_bytes_;
  return {};
}

}  // namespace node_mesh
