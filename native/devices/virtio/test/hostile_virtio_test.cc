// Threat model: a guest kernel that wants the monitor to crash, hang, or touch memory that is not
// the guest's. From seeds: rings and descriptors that are mostly right and then mutated, so that
// chains loop, overlap each other and the rings, point outside memory, and change by the device's
// own writes; registers written at random; input from outside at any moment. The same seed twice
// gives the same states and memory; each state loads again.
#include <random>

#include "devices/virtio/test/virtio_bench.h"
#include "devices/virtio_net/virtio_net.h"
#include "devices/virtio_rng/virtio_rng.h"

namespace node_mesh {
namespace {

class CountedFrames final : public NetworkSink {
 public:
  void network_output(std::uint64_t number, std::span<const std::byte> frame) override {
    CHECK(number == count++);
    CHECK(frame.size() >= ethernet_frame_bytes_min);
    CHECK(frame.size() <= ethernet_frame_bytes_max);
  }
  std::uint64_t count = 0;
};

struct Board {
  Board() : net(NetworkConfig{{2, 0, 0, 0, 0, 1}, 1500}, frames) {}
  TestMemory memory{256 << 10};
  RecordedPciInterrupts interrupts;
  CountedFrames frames;
  VirtioRng rng;
  VirtioNet net;
  VirtioPci rng_pci{rng, 1, memory, interrupts};
  VirtioPci net_pci{net, 2, memory, interrupts};
  std::array<VirtioPci*, 2> all() { return {&rng_pci, &net_pci}; }
};

class HostileGuest {
 public:
  explicit HostileGuest(std::uint64_t seed) : random_(seed) {}

  void step(Board& board) {
    now_ += random_() % 1000;
    VirtioPci& device = *board.all()[random_() % 2];
    if (random_() % 8 == 0 && !device.driver_ready()) start(device, board.memory);
    switch (random_() % 12) {
      case 0:
        if (random_() % 20 == 0) start(device, board.memory);
        break;
      case 1:
      case 2:
      case 3:
        fill_ring(board.memory);
        break;
      case 4:
        if (random_() % 10 == 0) mutate(board.memory);
        break;
      case 5:
        if (random_() % 10 == 0) access_window(device);
        break;
      case 6:
        if (random_() % 20 == 0) access_config(device);
        break;
      case 7:
        board.rng.input(std::vector<std::byte>(random_() % 200, std::byte{0x5a}));
        break;
      case 8:
        board.net.input(std::vector<std::byte>(random_() % 3000, std::byte{0x45}));
        break;
      default:
        device.write(0x3000 + 4 * (random_() % 3), 2, 0, now_);
    }
    for (VirtioPci* each : board.all()) {
      each->advance(now_);
      REQUIRE(each->deadline_ns() > now_);
    }
  }

 private:
  std::uint64_t address(const TestMemory& memory) {
    switch (random_() % 60) {
      case 0:
        return random_();
      case 1:
        return memory.bytes.size() - random_() % 2000;
      case 2:
        return 0x1000 + random_() % 0x2000;  // into the rings
      default:
        return random_() % memory.bytes.size();
    }
  }
  void start(VirtioPci& device, TestMemory& memory) {
    TestDriver driver(device, memory);
    driver.start(random_() & 0x3001'8803, 2);
    if (random_() % 2 == 0) driver.enable_messages(3);
  }
  // Chains as a driver would build them, most of the time.
  void fill_ring(TestMemory& memory) {
    const unsigned queue = random_() % 2;
    const std::uint64_t table = TestDriver::table(queue);
    for (unsigned i = 0; i < 4; ++i) {
      const auto at = static_cast<unsigned>(random_() % TestDriver::queue_size);
      const auto next = static_cast<std::uint16_t>(random_() % (random_() % 20 == 0 ? 40 : 16));
      auto flags = static_cast<std::uint16_t>(queue == 0 ? chain_writable : 0);
      if (random_() % 12 == 0) flags = static_cast<std::uint16_t>(random_() % 4);
      if (random_() % 30 == 0) flags |= chain_indirect;
      const auto size = static_cast<std::uint32_t>(random_() % 60 == 0  ? random_()
                                                   : random_() % 8 == 0 ? 16 * (random_() % 200)
                                                                        : random_() % 1500);
      memory.put(table + 16 * at, address(memory));
      memory.put(table + 16 * at + 8, size);
      memory.put(table + 16 * at + 12, flags);
      memory.put(table + 16 * at + 14, next);
      const auto index = memory.get<std::uint16_t>(TestDriver::available(queue) + 2);
      memory.put(TestDriver::available(queue) + 4 + 2 * (index % TestDriver::queue_size),
                 static_cast<std::uint16_t>(random_() % 200 == 0 ? random_() : at));
      memory.put(TestDriver::available(queue) + 2, static_cast<std::uint16_t>(index + 1));
    }
  }
  void mutate(TestMemory& memory) {
    for (int i = 0; i < 20; ++i) {
      const std::uint64_t at =
          random_() % 3 == 0 ? random_() % memory.bytes.size() : 0x1000 + random_() % 0x2000;
      memory.put(at, static_cast<std::uint8_t>(random_()));
    }
  }
  void access_window(VirtioPci& device) {
    const unsigned size = 1u << random_() % 4;
    std::uint64_t offset = random_() % 4 == 0 ? random_() % (0x8000 - size) : random_() % 56;
    if (random_() % 3 == 0) offset = (offset & 0xfff) | 0x1000 * (random_() % 6);
    offset &= ~std::uint64_t{size - 1};
    if (random_() % 2 == 0) {
      device.write(offset, size, random_() % 2 == 0 ? random_() : random_() % 256, now_);
    } else {
      device.read(offset, size, now_);
    }
  }
  void access_config(VirtioPci& device) {
    const auto offset = static_cast<unsigned>(random_() % 64 * 4);
    if (random_() % 2 == 0) {
      device.config_write(offset, 4, static_cast<std::uint32_t>(random_()), now_);
    } else {
      device.config_read(offset, now_);
    }
    device.window();
  }

  std::mt19937_64 random_;
  std::uint64_t now_ = 0;
};

TEST_CASE("virtio: a hostile guest gets nowhere, twice the same") {
  std::uint64_t sent = 0;
  for (std::uint64_t seed = 1; seed <= 120; ++seed) {
    CAPTURE(seed);
    Board first, second;
    HostileGuest a(seed), b(seed);
    for (int i = 0; i < 2500; ++i) {
      a.step(first);
      b.step(second);
    }
    CHECK(first.memory.bytes == second.memory.bytes);
    CHECK(first.interrupts.messages == second.interrupts.messages);
    Board fresh;
    fresh.memory.bytes = first.memory.bytes;
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(state_of(*first.all()[i]) == state_of(*second.all()[i]));
      check_round_trip(*first.all()[i], *fresh.all()[i]);
    }
    sent += first.frames.count;
  }
  CHECK(sent > 100);  // the guests do reach the card
}

TEST_CASE("virtio: random bytes as state are refused or lived with") {
  std::mt19937_64 random(11);
  for (int round = 0; round < 400; ++round) {
    Board board;
    HostileGuest guest(static_cast<std::uint64_t>(round));
    for (int i = 0; i < 60; ++i)
      guest.step(board);
    for (VirtioPci* device : board.all()) {
      std::vector<std::byte> state = state_of(*device);
      for (int flips = 0; flips < 4; ++flips) {
        state[random() % state.size()] = static_cast<std::byte>(random());
      }
      StateReader in(state);
      if (!device->load(in)) continue;
      device->advance(UINT64_MAX - 1);
      device->write(0x3000, 2, 0, UINT64_MAX - 1);
      device->advance(UINT64_MAX - 1);
    }
  }
}

TEST_CASE("virtio: a device that writes into its own ring does not serve for ever") {
  Board board;
  TestDriver driver(board.rng_pci, board.memory);
  driver.start(0, 1);
  // Each request's buffer is the ring's index, which the entropy moves on.
  for (std::uint16_t i = 0; i < TestDriver::queue_size; ++i) {
    driver.describe(TestDriver::table(0), i, TestDriver::available(0) + 2, 2, chain_writable, 0);
    driver.offer(0, i);
  }
  driver.ring(0);
  for (int i = 0; i < 100; ++i)
    board.rng.input(std::vector<std::byte>(2, static_cast<std::byte>(i)));
  CHECK((driver.status() & 0x40) != 0);
}

}  // namespace
}  // namespace node_mesh
