// The disk behind a driver that keeps to the rules, and one that does not.
#include "devices/virtio_blk/virtio_blk.h"

#include <doctest/doctest.h>

#include <array>
#include <random>

#include "devices/virtio/test/virtio_bench.h"

namespace node_mesh {
namespace {

constexpr std::uint64_t disk_bytes = 1 << 20;

// Every byte is its sector's number; a broken one cannot be read.
class NumberedImage final : public DiskImage {
 public:
  explicit NumberedImage(const bool& broken) : broken_(broken) {}
  std::uint64_t size_bytes() const override { return disk_bytes; }
  std::expected<void, std::string> read(std::uint64_t offset, std::span<std::byte> into) override {
    if (broken_) return std::unexpected("it is broken");
    for (std::size_t i = 0; i < into.size(); ++i)
      into[i] = static_cast<std::byte>((offset + i) / sector_bytes);
    return {};
  }
  std::expected<Extent, std::string> extent(std::uint64_t offset) override {
    return Extent{disk_bytes - offset, false};
  }
  void add_identity(std::vector<FileIdentity>&) const override {}

 private:
  const bool& broken_;
};

struct Scene {
  static constexpr std::uint64_t header = 0x8000, data = 0x10000, status = 0x9000;

  explicit Scene(bool read_only = false)
      : blk(0, *disk, read_only, [this](const std::string& why) { failure = why; }) {
    driver.start(blk.features(), 1);
  }

  // One request of header, data and status; returns the status.
  unsigned request(std::uint32_t kind, std::uint64_t sector, std::uint32_t bytes, bool to_guest) {
    memory.put(header, kind);
    memory.put(header + 4, std::uint32_t{0});
    memory.put(header + 8, sector);
    memory.put(status, std::uint8_t{0xee});
    const std::uint64_t table = TestDriver::table(0);
    driver.describe(table, 0, header, 16, chain_next, bytes == 0 ? 2 : 1);
    const auto flags = static_cast<std::uint16_t>(chain_next | (to_guest ? chain_writable : 0));
    driver.describe(table, 1, data, bytes, flags, 2);
    driver.describe(table, 2, status, 1, chain_writable, 0);
    driver.offer(0, 0);
    driver.ring(0);
    return memory.get<std::uint8_t>(status);
  }

  bool broken = false;
  std::string failure;
  std::unique_ptr<LayeredDisk> disk =
      std::move(*LayeredDisk::create(std::make_unique<NumberedImage>(broken), {}));
  VirtioBlk blk;
  TestMemory memory;
  RecordedPciInterrupts interrupts;
  VirtioPci device{blk, 4, memory, interrupts};
  TestDriver driver{device, memory};
};

TEST_CASE("virtio_blk: what is written is read back, and the rest is the image's") {
  Scene scene;
  CHECK(scene.request(0, 5, 1024, true) == 0);
  CHECK(scene.memory.get<std::uint8_t>(Scene::data + 511) == 5);
  CHECK(scene.memory.get<std::uint8_t>(Scene::data + 512) == 6);
  CHECK(scene.driver.used_bytes(0, 0) == 1025);
  scene.memory.put(Scene::data, 0x1122334455667788);
  CHECK(scene.request(1, 6, 512, false) == 0);
  CHECK(scene.request(4, 0, 0, false) == 0);
  CHECK(scene.request(0, 6, 1024, true) == 0);
  CHECK(scene.memory.get<std::uint64_t>(Scene::data) == 0x1122334455667788);
  CHECK(scene.memory.get<std::uint8_t>(Scene::data + 512) == 7);
  CHECK(scene.request(8, 0, 20, true) == 0);
  CHECK(scene.memory.get<std::uint32_t>(Scene::data) == 0x65646f6e);  // "node"
}

TEST_CASE("virtio_blk: discard and write zeroes, as a whole or not at all") {
  Scene scene;
  const auto range = [&](unsigned index, std::uint64_t sector, std::uint32_t sectors,
                         std::uint32_t flags) {
    scene.memory.put(Scene::data + 16 * index, sector);
    scene.memory.put(Scene::data + 16 * index + 8, sectors);
    scene.memory.put(Scene::data + 16 * index + 12, flags);
  };
  range(0, 8, 16, 0);
  CHECK(scene.request(11, 0, 16, false) == 0);
  range(0, 33, 2, 1);
  CHECK(scene.request(13, 0, 16, false) == 0);
  range(0, 40, 8, 0);
  range(1, disk_bytes / 512 - 1, 2, 0);
  CHECK(scene.request(13, 0, 32, false) == 1);
  range(0, 40, 8, 2);
  CHECK(scene.request(13, 0, 16, false) == 2);
  CHECK(scene.request(0, 0, 50 * 512, true) == 0);
  for (unsigned sector = 0; sector < 50; ++sector) {
    const bool zero = (sector >= 8 && sector < 24) || sector == 33 || sector == 34;
    CHECK(scene.memory.get<std::uint8_t>(Scene::data + 512 * sector) == (zero ? 0 : sector));
  }
}

TEST_CASE("virtio_blk: what makes no sense is refused, and a read-only disk stays as it is") {
  Scene scene;
  CHECK(scene.request(0, disk_bytes / 512, 512, true) == 1);
  CHECK(scene.request(0, UINT64_MAX / 256, 512, true) == 1);
  CHECK(scene.request(0, 0, 513, true) == 1);
  CHECK(scene.request(1, disk_bytes / 512 - 1, 1024, false) == 1);
  CHECK(scene.request(99, 0, 512, true) == 2);
  CHECK(scene.request(8, 0, 19, true) == 1);
  Scene read_only(true);
  CHECK(read_only.request(1, 0, 512, false) == 1);
  CHECK(read_only.request(11, 0, 16, false) == 1);
  CHECK(read_only.disk->content_sum() == 0);
}

TEST_CASE("virtio_blk: a host that fails is told once, and the guest hears nothing") {
  Scene scene;
  scene.broken = true;
  CHECK(scene.request(0, 0, 512, true) == 0xee);
  CHECK(scene.failure == "it is broken");
  CHECK(scene.driver.used_count(0) == 0);
}

TEST_CASE("virtio_blk: random requests do the same on two disks, and end") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    std::array<Scene, 2> scenes;
    std::array<std::mt19937_64, 2> random{std::mt19937_64(seed), std::mt19937_64(seed)};
    for (int i = 0; i < 200; ++i) {
      std::array<unsigned, 2> status{};
      for (unsigned which = 0; which < 2; ++which) {
        auto& draw = random[which];
        const auto kind = static_cast<std::uint32_t>(draw() % 15);
        const std::uint64_t sector = draw() % 8 == 0 ? draw() : draw() % (disk_bytes / 512);
        const auto bytes =
            static_cast<std::uint32_t>(draw() % 4 == 0 ? draw() % 5000 : draw() % 9 * 512);
        const bool to_guest = draw() % 2 == 0;
        scenes[which].memory.put(Scene::data + 8 * (draw() % 64), draw() % (disk_bytes / 512));
        status[which] = scenes[which].request(kind, sector, bytes, to_guest);
      }
      REQUIRE(status[0] == status[1]);
    }
    CHECK(scenes[0].disk->content_sum() == scenes[1].disk->content_sum());
    CHECK(scenes[0].memory.bytes == scenes[1].memory.bytes);
    CHECK(scenes[0].failure.empty());
  }
}

}  // namespace
}  // namespace node_mesh
