// What checkpoints cost: how long the guest stands still for one, and how long its writer takes in
// the background, for a guest of 512 MiB whose memory is full and of which 10,000 pages changed.
// Prints one JSON object.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <random>
#include <vector>

#include "checkpoint/checkpoint_loader.h"
#include "checkpoint/checkpoint_writer.h"
#include "test/guests/tiny_guest.h"

namespace node_mesh {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t memory_bytes = 512ull << 20;
constexpr std::uint64_t first_gfn = 4096;  // behind the guest itself
constexpr unsigned changed_pages = 10'000;
constexpr unsigned rounds = 5;

// Half of it text-like and half of it noise, as memory in use is.
void fill_page(GuestMemory& memory, std::uint64_t gfn, std::mt19937_64& random) {
  std::uint64_t words[page_bytes / 8];
  const std::uint64_t seed = random();
  for (std::size_t i = 0; i < std::size(words); ++i)
    words[i] = i % 2 == 0 ? random() : seed & 0x0f0f'0f0f'0f0f'0f0f;
  if (!memory.write(gfn * page_bytes, std::as_bytes(std::span(words)))) std::abort();
}

double ms(std::uint64_t ns) { return static_cast<double>(ns) / 1e6; }

WrittenCheckpoint checkpoint(CheckpointWriter& writer, const StateDigest& digest,
                             const MachineConfig& config, std::uint64_t chunk) {
  const InputSources inputs;
  const auto begun = writer.begin(digest, {config, chunk, inputs});
  if (!begun) throw std::runtime_error(begun.error());
  writer.release();
  auto written = *writer.wait();
  if (!written) throw std::runtime_error(written.error());
  return *written;
}

int run(const fs::path& directory) {
  MachineConfig config = TinyGuest::default_config();
  config.memory_bytes = memory_bytes;
  TinyGuest guest("ticker", config);
  GuestMemory& memory = guest.machine().memory();
  std::mt19937_64 random(1);
  for (std::uint64_t gfn = first_gfn; gfn < memory.page_count(); ++gfn)
    fill_page(memory, gfn, random);
  StateDigest digest(memory.page_count());
  digest.take(guest.machine());
  auto writer = CheckpointWriter::open({directory, 2}, guest.machine());
  if (!writer) throw std::runtime_error(writer.error());
  const WrittenCheckpoint full = checkpoint(**writer, digest, config, 1);
  std::vector<std::uint64_t> pauses_ns;
  std::vector<std::uint64_t> works_ns;
  WrittenCheckpoint last;
  for (unsigned round = 0; round < rounds; ++round) {
    for (unsigned i = 0; i < changed_pages; ++i)
      fill_page(memory, first_gfn + random() % (memory.page_count() - first_gfn), random);
    digest.take(guest.machine());
    last = checkpoint(**writer, digest, config, 2 + round);
    pauses_ns.push_back(last.pause_ns);
    works_ns.push_back(last.work_ns);
  }
  std::ranges::sort(pauses_ns);
  std::ranges::sort(works_ns);
  std::printf(
      "{\"full_pause_ms\":%.3f,\"full_work_ms\":%.1f,\"full_bytes\":%llu,"
      "\"pause_ms\":%.3f,\"work_ms\":%.1f,\"pages\":%llu,\"bytes\":%llu}\n",
      ms(full.pause_ns), ms(full.work_ns), static_cast<unsigned long long>(full.bytes),
      ms(pauses_ns[rounds / 2]), ms(works_ns[rounds / 2]),
      static_cast<unsigned long long>(last.pages), static_cast<unsigned long long>(last.bytes));
  return 0;
}

}  // namespace
}  // namespace node_mesh

int main() {
  namespace fs = std::filesystem;
  std::string name = (fs::temp_directory_path() / "nm_checkpoint_bench_XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) return 1;
  int status = 1;
  try {
    status = node_mesh::run(name);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  std::error_code ignored;
  fs::remove_all(name, ignored);
  return status;
}
