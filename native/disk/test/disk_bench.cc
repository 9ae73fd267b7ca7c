// How fast a layered disk is, for choosing the cluster size: disk_bench [DIRECTORY].
#include <chrono>
#include <cstdio>
#include <random>

#include "disk/layered_disk.h"

namespace {

using namespace node_mesh;

// All zeros, from nowhere.
class EmptyImage final : public DiskImage {
 public:
  std::uint64_t size_bytes() const override { return 1ull << 30; }
  std::expected<void, std::string> read(std::uint64_t, std::span<std::byte> into) override {
    std::fill(into.begin(), into.end(), std::byte{0});
    return {};
  }
  std::expected<Extent, std::string> extent(std::uint64_t offset) override {
    return Extent{size_bytes() - offset, true};
  }
  void add_identity(std::vector<FileIdentity>&) const override {}
};

template <typename Work>
void measure(const char* what, double bytes, Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("%-28s %8.0f MB/s\n", what, bytes / took.count() / 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  auto created = LayeredDisk::create(std::make_unique<EmptyImage>(),
                                     {.scratch_directory = argc > 1 ? argv[1] : ""});
  if (!created) return 1;
  LayeredDisk& disk = **created;
  std::mt19937_64 random(1);
  std::vector<std::byte> data(256 << 10);
  for (auto& byte : data)
    byte = static_cast<std::byte>(random());
  const std::uint64_t whole = 512ull << 20;
  const auto piece = std::span(data).first(4096);
  bool good = true;
  measure("sequential writes of 256 KiB", static_cast<double>(whole), [&] {
    for (std::uint64_t at = 0; at < whole; at += data.size())
      good = good && disk.write(at, data);
  });
  measure("sequential reads of 256 KiB", static_cast<double>(whole), [&] {
    for (std::uint64_t at = 0; at < whole; at += data.size())
      good = good && disk.read(at, data);
  });
  measure("random writes of 4 KiB, new", 4096.0 * 20'000, [&] {
    for (int i = 0; i < 20'000; ++i)
      good = good && disk.write(whole + random() % (whole / 4096) * 4096, piece);
  });
  measure("random writes of 4 KiB, old", 4096.0 * 50'000, [&] {
    for (int i = 0; i < 50'000; ++i)
      good = good && disk.write(random() % (whole / 4096) * 4096, piece);
  });
  measure("random reads of 4 KiB", 4096.0 * 100'000, [&] {
    for (int i = 0; i < 100'000; ++i)
      good = good && disk.read(random() % (whole / 4096) * 4096, std::span(data).first(4096));
  });
  return good ? 0 : 1;
}
