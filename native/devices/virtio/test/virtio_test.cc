#include "devices/pci_host/pci_host.h"
#include "devices/virtio/test/virtio_bench.h"
#include "devices/virtio_rng/virtio_rng.h"

namespace node_mesh {
namespace {

struct Board {
  TestMemory memory;
  RecordedPciInterrupts interrupts;
  VirtioRng rng;
  VirtioPci pci{rng, 3, memory, interrupts};
  TestDriver driver{pci, memory};
};

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>(i + 1);
  return bytes;
}

TEST_CASE("virtio: the window can be sized, moved and switched off") {
  Board board;
  PciHost host;
  host.add(board.pci, 3);
  const auto config = [&](unsigned offset) {
    host.write(0xcf8, 4, 0x8000'0000 | 3 << 11 | offset, 0);
    return host.read(0xcfc, 4, 0);
  };
  const auto set = [&](unsigned offset, std::uint32_t value) {
    host.write(0xcf8, 4, 0x8000'0000 | 3 << 11 | offset, 0);
    host.write(0xcfc, 4, value, 0);
  };
  CHECK(config(0x00) == 0x1044'1af4);
  CHECK(config(0x10) == pci_memory_start + 3 * VirtioPci::window_bytes);
  CHECK(host.memory_target(config(0x10) + 8, 4).offset == 8);
  set(0x10, 0xffff'ffff);
  CHECK(config(0x10) == ~(VirtioPci::window_bytes - 1));
  set(0x10, 0xe000'0000);
  CHECK(host.memory_target(0xe000'0014, 1).function == &board.pci);
  CHECK(host.memory_target(0xe000'7ffe, 4).function == nullptr);
  set(0x04, 0);
  CHECK(host.memory_target(0xe000'0014, 1).function == nullptr);
  set(0x00, 0);
  CHECK(config(0x00) == 0x1044'1af4);
  host.write(0xcf8, 4, 0x8000'0100 | 3 << 11, 0);  // another function of the slot
  CHECK(host.read(0xcfc, 4, 0) == UINT32_MAX);
}

TEST_CASE("virtio: features are taken only as offered, and the driver must be modern") {
  Board board;
  TestDriver& driver = board.driver;
  driver.start(1ull << 40, 1);
  CHECK((driver.status() & 8) == 0);
  CHECK_FALSE(board.pci.driver_ready());
  driver.start(TestDriver::event_index, 1);
  CHECK(driver.status() == 0xf);
  CHECK(board.pci.driver_ready());
}

TEST_CASE("virtio: a request waits for its entropy, then interrupts by message or by pin") {
  for (const bool by_message : {true, false}) {
    Board board;
    TestDriver& driver = board.driver;
    driver.start(0, 1);
    if (by_message) driver.enable_messages(2);
    driver.describe(TestDriver::table(0), 4, 0x8000, 40, chain_writable, 0);
    driver.offer(0, 4);
    driver.ring(0);
    CHECK(driver.used_count(0) == 0);
    REQUIRE(board.rng.wanted_bytes() == 40);
    board.rng.input(pattern(64));
    CHECK(board.rng.wanted_bytes() == 0);
    CHECK(driver.used_count(0) == 1);
    CHECK(driver.used_bytes(0, 0) == 40);
    CHECK(board.memory.get<std::uint8_t>(0x8000 + 39) == 40);
    CHECK(board.memory.get<std::uint8_t>(0x8000 + 40) == 0);
    CHECK(board.interrupts.messages.size() == (by_message ? 1 : 0));
    CHECK(board.interrupts.pins[3] == !by_message);
    if (by_message) {
      CHECK(board.interrupts.messages[0] ==
            std::pair<std::uint64_t, std::uint32_t>(0xfee0'0000, 0x40));
    } else {
      CHECK(board.pci.read(0x1000, 1, 0) == 1);
      CHECK_FALSE(board.interrupts.pins[3]);
    }
    Board fresh;
    fresh.memory.bytes = board.memory.bytes;
    check_round_trip(board.pci, fresh.pci);
  }
}

TEST_CASE("virtio: a masked message waits for its unmasking") {
  Board board;
  TestDriver& driver = board.driver;
  driver.start(0, 1);
  driver.enable_messages(2);
  board.pci.write(0x400c, 4, 1, 0);
  driver.describe(TestDriver::table(0), 0, 0x8000, 8, chain_writable, 0);
  driver.offer(0, 0);
  driver.ring(0);
  board.rng.input(pattern(8));
  CHECK(board.interrupts.messages.empty());
  CHECK(board.pci.read(0x5000, 4, 0) == 1);
  board.pci.write(0x400c, 4, 0, 0);
  CHECK(board.interrupts.messages.size() == 1);
  CHECK(board.pci.read(0x5000, 4, 0) == 0);
}

TEST_CASE("virtio: event index spares interrupts that nobody wants") {
  Board board;
  TestDriver& driver = board.driver;
  driver.start(TestDriver::event_index, 1);
  driver.enable_messages(2);
  board.memory.put<std::uint16_t>(TestDriver::available(0) + 4 + 32, 1);  // after the second
  for (std::uint16_t i = 0; i < 2; ++i) {
    driver.describe(TestDriver::table(0), i, 0x8000, 8, chain_writable, 0);
    driver.offer(0, i);
    driver.ring(0);
    board.rng.input(pattern(8));
    CHECK(board.interrupts.messages.size() == i);
  }
  // The ring is empty: the device wants a doorbell for the third.
  CHECK(board.memory.get<std::uint16_t>(TestDriver::used(0) + 4 + 128) == 2);
}

TEST_CASE("virtio: an indirect table is a chain like any other") {
  Board board;
  TestDriver& driver = board.driver;
  driver.start(TestDriver::indirect, 1);
  driver.describe(0x9000, 0, 0x8000, 3, chain_writable | chain_next, 1);
  driver.describe(0x9000, 1, 0x8800, 5, chain_writable, 0);
  driver.describe(TestDriver::table(0), 2, 0x9000, 32, chain_indirect, 0);
  driver.offer(0, 2);
  driver.ring(0);
  board.rng.input(pattern(8));
  CHECK(driver.used_bytes(0, 0) == 8);
  CHECK(board.memory.get<std::uint8_t>(0x8800 + 4) == 8);
}

TEST_CASE("virtio: a malformed chain breaks its device, and a reset mends it") {
  using Spoil = void (*)(TestDriver&);
  const std::pair<const char*, Spoil> cases[] = {
      {"a loop",
       [](TestDriver& d) {
         d.describe(TestDriver::table(0), 0, 0x8000, 8, chain_writable | chain_next, 1);
         d.describe(TestDriver::table(0), 1, 0x8000, 8, chain_writable | chain_next, 0);
       }},
      {"next beyond the table",
       [](TestDriver& d) {
         d.describe(TestDriver::table(0), 0, 0x8000, 8, chain_writable | chain_next, 16);
       }},
      {"outside memory",
       [](TestDriver& d) { d.describe(TestDriver::table(0), 0, 0xfffff, 2, chain_writable, 0); }},
      {"around the end of addresses",
       [](TestDriver& d) {
         d.describe(TestDriver::table(0), 0, UINT64_MAX - 3, 8, chain_writable, 0);
       }},
      {"readable behind writable",
       [](TestDriver& d) {
         d.describe(TestDriver::table(0), 0, 0x8000, 8, chain_writable | chain_next, 1);
         d.describe(TestDriver::table(0), 1, 0x8000, 8, 0, 0);
       }},
      {"an empty indirect table",
       [](TestDriver& d) { d.describe(TestDriver::table(0), 0, 0x9000, 0, chain_indirect, 0); }},
      {"half a descriptor",
       [](TestDriver& d) { d.describe(TestDriver::table(0), 0, 0x9000, 24, chain_indirect, 0); }},
      {"a nested indirect table",
       [](TestDriver& d) {
         d.describe(TestDriver::table(0), 0, 0x9000, 16, chain_indirect, 0);
         d.describe(0x9000, 0, 0x9000, 16, chain_indirect, 0);
       }},
      {"an indirect table of 1 MiB",
       [](TestDriver& d) { d.describe(TestDriver::table(0), 0, 0, 1 << 20, chain_indirect, 0); }},
      {"a head beyond the table", [](TestDriver& d) { d.memory.put<std::uint16_t>(0x1804, 99); }},
      {"an index far ahead", [](TestDriver& d) { d.memory.put<std::uint16_t>(0x1802, 400); }},
  };
  for (const auto& [name, spoil] : cases) {
    CAPTURE(name);
    Board board;
    TestDriver& driver = board.driver;
    driver.start(TestDriver::indirect, 1);
    driver.enable_messages(2);
    board.pci.write(16, 2, 1, 0);  // configuration interrupts to vector 1
    driver.offer(0, 0);
    spoil(driver);
    driver.ring(0);
    CHECK(driver.status() == 0x4f);
    CHECK(board.rng.wanted_bytes() == 0);
    REQUIRE(board.interrupts.messages.size() == 1);
    CHECK(board.interrupts.messages[0].second == 0x41);
    driver.ring(0);
    board.rng.input(pattern(8));
    CHECK(driver.used_count(0) == 0);
    board.memory.bytes.assign(board.memory.bytes.size(), std::byte{0});
    driver.start(0, 1);
    driver.describe(TestDriver::table(0), 0, 0x8000, 8, chain_writable, 0);
    driver.offer(0, 0);
    driver.ring(0);
    CHECK(board.rng.wanted_bytes() == 8);
  }
}

TEST_CASE("virtio: rings outside memory or misaligned break the device when enabled") {
  for (const std::uint64_t place :
       {std::uint64_t{0xfff80}, std::uint64_t{0x1008}, UINT64_MAX - 15}) {
    Board board;
    board.driver.start(0, 0);
    board.pci.write(32, 8, place, 0);
    board.pci.write(28, 2, 1, 0);
    CHECK((board.driver.status() & 0x40) != 0);
  }
}

TEST_CASE("virtio: the window is reached through configuration space too") {
  Board board;
  unsigned at = board.pci.config_read(0x34, 0) & 0xff;
  while ((board.pci.config_read(at, 0) >> 24) != 5)
    at = board.pci.config_read(at, 0) >> 8 & 0xff;
  board.pci.config_write(at + 8, 4, 18, 0);
  board.pci.config_write(at + 12, 4, 2, 0);
  CHECK(board.pci.config_read(at + 16, 0) == 1);  // the number of queues
  board.pci.config_write(at + 8, 4, 20, 0);
  board.pci.config_write(at + 12, 4, 1, 0);
  board.pci.config_write(at + 16, 1, 3, 0);
  CHECK(board.driver.status() == 3);
  board.pci.config_write(at + 8, 4, 0x8000, 0);
  CHECK(board.pci.config_read(at + 16, 0) == 0);
}

}  // namespace
}  // namespace node_mesh
