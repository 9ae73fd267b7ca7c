// Threat model: a guest that has all its privileges and wants to crash or stall the monitor. Random
// accesses, typed input and jumps of time, from seeds. After each one every device must be in a
// state that saves and loads, with no deadline left in the past; the same seed twice must give the
// same states.
#include <random>

#include "devices/acpi_pm/acpi_pm.h"
#include "devices/ioapic/ioapic.h"
#include "devices/lapic/lapic.h"
#include "devices/pci_host/pci_host.h"
#include "devices/pic/pic.h"
#include "devices/pit/pit.h"
#include "devices/reset/reset.h"
#include "devices/rtc/rtc.h"
#include "devices/serial/serial.h"
#include "devices/test/bench.h"

namespace node_mesh {
namespace {

class Board final : InterruptLines, SerialOutput {
 public:
  Board() { lapic.set_end_of_interrupt_sink(&ioapic); }
  void set_irq(unsigned irq, bool asserted) override {
    pic.set_irq(irq, asserted);
    ioapic.set_isa_irq(irq, asserted);
  }
  void serial_output(std::byte) override {}

  RecordedPower power;
  Pic pic;
  Pit pit{*this};
  Rtc rtc{*this, 1'700'000'000'000'000'000};
  Lapic lapic;
  Ioapic ioapic{lapic};
  Serial serial{*this, *this};
  AcpiPm acpi_pm{*this, power};
  Reset reset{power};
  PciHost pci_host;

  struct PortRange {
    PortDevice* device;
    std::uint16_t first, count;
    bool bytes_only;
  };
  std::vector<PortRange> ports() {
    return {{&pic, 0x20, 2, true},     {&pic, 0xa0, 2, true},        {&pic, 0x4d0, 2, true},
            {&pit, 0x40, 4, true},     {&pit, 0x61, 1, true},        {&rtc, 0x70, 2, true},
            {&serial, 0x3f8, 8, true}, {&acpi_pm, 0x600, 6, false},  {&reset, 0x64, 1, true},
            {&reset, 0xcf9, 1, true},  {&pci_host, 0xcf8, 1, false}, {&pci_host, 0xcfc, 4, false}};
  }
  std::vector<Device*> all() {
    return {&pic, &pit, &rtc, &lapic, &ioapic, &serial, &acpi_pm, &reset, &pci_host};
  }
};

class HostileDriver {
 public:
  explicit HostileDriver(std::uint64_t seed) : random_(seed) {}

  void step(Board& board) {
    now_ += random_() % 8 == 0 ? random_() % 3'000'000'000 : random_() % 2000;
    for (Device* device : board.all()) {
      device->advance(now_);
      REQUIRE(device->deadline_ns() > now_);
    }
    switch (random_() % 8) {
      case 0:
      case 1:
      case 2:
      case 3:
        access_port(board);
        break;
      case 4:
        access_memory(board.lapic);
        break;
      case 5:
        access_memory(board.ioapic);
        break;
      case 6:
        access_msr(board.lapic);
        break;
      default:
        type_or_acknowledge(board);
        break;
    }
  }
  std::uint64_t now() const { return now_; }

 private:
  std::uint32_t value() {
    const auto raw = static_cast<std::uint32_t>(random_());
    return random_() % 4 == 0 ? raw : raw & 0xff;
  }
  void access_port(Board& board) {
    const auto ranges = board.ports();
    const auto& range = ranges[random_() % ranges.size()];
    const auto port = static_cast<std::uint16_t>(range.first + random_() % range.count);
    const unsigned size = range.bytes_only ? 1 : 1u << random_() % 3;
    if (random_() % 2 == 0) {
      range.device->write(port, size, value() & UINT32_MAX >> (32 - 8 * size), now_);
    } else {
      CHECK(range.device->read(port, size, now_) <= UINT32_MAX >> (32 - 8 * size));
    }
  }
  void access_memory(MmioDevice& device) {
    const unsigned size = 1u << random_() % 4;
    std::uint64_t offset = random_() % (0x1000 - size);
    if (random_() % 4 != 0) offset &= ~std::uint64_t{15};
    if (random_() % 2 == 0) {
      device.write(offset, size, value(), now_);
    } else {
      device.read(offset, size, now_);
    }
  }
  void access_msr(Lapic& lapic) {
    std::uint64_t into = 0;
    const std::uint32_t index = random_() % 4 == 0 ? 0x1b : 0x6e0;
    lapic.msr_read(index, into);
    lapic.set_tsc_offset(random_() % 3 == 0 ? random_() : 0);
    lapic.msr_write(index, index == 0x1b ? (random_() & 0xfff'ff900) : now_ + random_() % 1000,
                    now_);
    lapic.advance(now_);
  }
  void type_or_acknowledge(Board& board) {
    if (random_() % 4 == 0) {
      const std::vector<std::byte> text(random_() % 40, std::byte{'k'});
      board.serial.input(text, now_);
    } else if (board.lapic.interrupt_pending()) {
      board.lapic.acknowledge();
    } else {
      board.pic.acknowledge();
    }
  }

  std::mt19937_64 random_;
  std::uint64_t now_ = 0;
};

TEST_CASE("devices: a hostile driver gets nowhere, twice the same") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    Board first, second, loaded;
    HostileDriver a(seed), b(seed);
    for (int i = 0; i < 3000; ++i) {
      a.step(first);
      b.step(second);
    }
    const auto ours = first.all(), theirs = second.all(), fresh = loaded.all();
    for (std::size_t i = 0; i < ours.size(); ++i) {
      CAPTURE(ours[i]->name());
      CHECK(state_of(*ours[i]) == state_of(*theirs[i]));
      check_round_trip(*ours[i], *fresh[i]);
    }
  }
}

TEST_CASE("devices: advance before the deadline changes nothing") {
  for (std::uint64_t seed = 100; seed < 110; ++seed) {
    Board board;
    HostileDriver driver(seed);
    for (int i = 0; i < 2000; ++i) {
      driver.step(board);
      for (Device* device : board.all()) {
        if (device->deadline_ns() <= driver.now()) continue;
        const auto before = state_of(*device);
        device->advance(driver.now());
        CHECK(state_of(*device) == before);
      }
    }
  }
}

TEST_CASE("devices: random bytes as state are refused or lived with") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; ++round) {
    Board board;
    for (Device* device : board.all()) {
      std::vector<std::byte> state = state_of(*device);
      for (int flips = 0; flips < 3; ++flips) {
        state[random() % state.size()] = static_cast<std::byte>(random());
      }
      StateReader in(state);
      if (!device->load(in)) continue;
      device->deadline_ns();
      device->advance(1'000'000'000);
    }
  }
}

}  // namespace
}  // namespace node_mesh
