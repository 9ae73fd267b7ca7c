#include "checkpoint/checkpoint_loader.h"

#include <zstd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>

#include "replay/file.h"

namespace node_mesh {
namespace {

constexpr unsigned threads_max = 4;
constexpr std::size_t block_bytes = block_pages * page_bytes;

// Where one page of a pack goes; a page may go to several places.
struct Target {
  std::uint32_t index = 0;
  std::uint64_t gfn = 0;
};

class PackLoader {
 public:
  PackLoader(const std::filesystem::path& directory, const Manifest& manifest, GuestMemory& memory,
             std::span<std::uint64_t> hashes)
      : directory_(directory),
        manifest_(manifest),
        memory_(memory),
        hashes_(hashes),
        targets_(manifest.packs.size()) {
    for (const Manifest::Run& run : manifest.runs) {
      for (std::uint32_t i = 0; i < run.count; ++i)
        targets_[run.pack].push_back({run.index + i, run.gfn + i});
    }
    for (auto& targets : targets_)
      std::ranges::sort(targets, {}, &Target::index);
  }

  std::expected<void, std::string> load_all() {
    const auto count = static_cast<unsigned>(std::clamp<std::size_t>(
        manifest_.packs.size(), 1,
        std::min(threads_max, std::max(1u, std::thread::hardware_concurrency()))));
    std::vector<std::thread> threads;
    for (unsigned i = 1; i < count; ++i)
      threads.emplace_back([this] { work(); });
    work();
    for (std::thread& thread : threads)
      thread.join();
    if (!error_.empty()) return std::unexpected(error_);
    return {};
  }

 private:
  void work() {
    for (;;) {
      const std::size_t pack = next_.fetch_add(1);
      if (pack >= manifest_.packs.size() || failed_.load()) return;
      const auto loaded = load(pack);
      if (loaded) continue;
      const std::lock_guard lock(mutex_);
      failed_ = true;
      if (error_.empty()) {
        error_ = "pack \"" + pack_path(directory_, manifest_.packs[pack].name).string() +
                 "\": " + loaded.error();
      }
    }
  }

  std::expected<void, std::string> load(std::size_t number) {
    const Manifest::Pack& pack = manifest_.packs[number];
    const auto bytes = read_file(pack_path(directory_, pack.name), pack_bytes_max);
    if (!bytes) return std::unexpected(bytes.error());
    if (bytes->size() != pack.bytes || sha256_of(*bytes) != pack.name) {
      return std::unexpected("it is damaged: its content is not what it was");
    }
    ByteReader in(*bytes);
    const auto magic = in.bytes("magic", pack_magic.size());
    if (in.failed() || !std::ranges::equal(magic, as_byte_span(pack_magic))) {
      return std::unexpected("it is no pack that this program reads");
    }
    std::span<const Target> targets = targets_[number];
    Bytes block(block_bytes);
    for (std::uint32_t first = 0; first < pack.pages; first += block_pages) {
      const std::uint32_t count = std::min(block_pages, pack.pages - first);
      const auto packed = in.bytes("block", in.u32("block length"));
      if (in.failed()) return std::unexpected(in.error());
      if (targets.empty() || targets.front().index >= first + count) continue;
      const std::size_t got =
          ZSTD_decompress(block.data(), block.size(), packed.data(), packed.size());
      if (got != count * page_bytes) return std::unexpected("a block of it cannot be unpacked");
      for (; !targets.empty() && targets.front().index < first + count;
           targets = targets.subspan(1)) {
        place(targets.front().gfn, block.data() + (targets.front().index - first) * page_bytes);
      }
    }
    if (in.left() != 0) return std::unexpected("bytes follow its last block");
    return {};
  }

  // Not GuestMemory::write(): a page that is as the checkpoint has it counts as not written.
  void place(std::uint64_t gfn, const std::byte* page) {
    std::memcpy(memory_.base() + gfn * page_bytes, page, page_bytes);
    hashes_[gfn] = hash_of_page(page, gfn);
  }

  const std::filesystem::path& directory_;
  const Manifest& manifest_;
  GuestMemory& memory_;
  std::span<std::uint64_t> hashes_;
  std::vector<std::vector<Target>> targets_;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;
  std::string error_;
};

}  // namespace

std::expected<RestoredMachine, std::string> restore_checkpoint(const std::filesystem::path& file,
                                                               ConsoleSink& console) {
  const auto cannot = [&](const std::string& why) {
    return std::unexpected("checkpoint \"" + file.string() + "\": " + why);
  };
  auto manifest = read_manifest(file);
  if (!manifest) return std::unexpected(manifest.error());
  auto memory = GuestMemory::create(manifest->config.memory_bytes);
  if (!memory) return std::unexpected(memory.error());
  std::vector<std::uint64_t> hashes(memory->page_count());
  const std::filesystem::path directory = file.parent_path();
  if (auto loaded = PackLoader(directory, *manifest, *memory, hashes).load_all(); !loaded) {
    return std::unexpected(loaded.error());
  }
  for (const Manifest::Stale& stale : manifest->stale) {
    hashes[stale.gfn] = stale.hash;
    memory->mark_for_digest(stale.gfn);
  }
  StateDigest digest(memory->page_count());
  for (std::uint64_t gfn = 0; gfn < hashes.size(); ++gfn) {
    if (hashes[gfn] != 0) digest.set_hash(gfn, hashes[gfn]);
  }
  if (digest.memory_sum() != manifest->memory_sum) {
    return cannot("its pages are not the memory that it was made of");
  }
  auto machine = Machine::restore(manifest->config, manifest->state, std::move(*memory), console);
  if (!machine) return cannot(machine.error());
  if ((*machine)->console_bytes() != manifest->console_bytes) {
    return cannot("its console is at another byte than its devices say");
  }
  return RestoredMachine{std::move(*manifest), std::move(*machine), std::move(digest)};
}

}  // namespace node_mesh
