// What virtio tests stand a device on: memory of its own, interrupts that are written down, and the
// driver's half of the protocol.
#pragma once

#include <cstring>
#include <utility>
#include <vector>

#include "devices/test/bench.h"
#include "devices/virtio/virtio_pci.h"

namespace node_mesh {

class TestMemory final : public GuestDma {
 public:
  explicit TestMemory(std::size_t size = 1 << 20) : bytes(size) {}
  bool contains(std::uint64_t gpa, std::uint64_t count) const override {
    return gpa <= bytes.size() && count <= bytes.size() - gpa;
  }
  bool read(std::uint64_t gpa, std::span<std::byte> into) const override {
    if (!contains(gpa, into.size())) return false;
    if (!into.empty()) std::memcpy(into.data(), bytes.data() + gpa, into.size());
    return true;
  }
  bool write(std::uint64_t gpa, std::span<const std::byte> from) override {
    if (!contains(gpa, from.size())) return false;
    if (!from.empty()) std::memcpy(bytes.data() + gpa, from.data(), from.size());
    return true;
  }
  template <class T>
  void put(std::uint64_t gpa, T value) {
    write(gpa, std::as_bytes(std::span(&value, 1)));
  }
  template <class T>
  T get(std::uint64_t gpa) const {
    T value{};
    read(gpa, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  std::vector<std::byte> bytes;
};

class RecordedPciInterrupts final : public PciInterrupts {
 public:
  void set_pci_interrupt(unsigned slot, bool asserted) override { pins[slot] = asserted; }
  void send_message(std::uint64_t address, std::uint32_t data) override {
    messages.emplace_back(address, data);
  }
  std::array<bool, pci_slots> pins{};
  std::vector<std::pair<std::uint64_t, std::uint32_t>> messages;
};

// A driver that keeps to the rules. Queue q has its descriptors at 0x1000 * (1 + q), its available
// ring 0x800 and its used ring 0xc00 behind; buffers are the caller's.
class TestDriver {
 public:
  static constexpr std::uint16_t queue_size = 16;
  static constexpr std::uint64_t version_1 = 1ull << 32, event_index = 1ull << 29,
                                 indirect = 1ull << 28;

  TestDriver(VirtioPci& device_in, TestMemory& memory_in) : device(device_in), memory(memory_in) {}

  void common(unsigned offset, unsigned size, std::uint64_t value) {
    device.write(offset, size, value, 0);
  }
  void start(std::uint64_t features, unsigned queues) {
    device.config_write(0x04, 2, 0x0006, 0);  // memory, bus master
    common(20, 1, 0);
    common(20, 1, 3);
    for (const unsigned half : {0u, 1u}) {
      common(8, 4, half);
      common(12, 4, (features | version_1) >> (32 * half) & UINT32_MAX);
    }
    common(20, 1, 0xb);
    for (unsigned q = 0; q < queues; ++q) {
      common(22, 2, q);
      common(24, 2, queue_size);
      common(26, 2, q);
      common(32, 8, table(q));
      common(40, 8, available(q));
      common(48, 8, used(q));
      common(28, 2, 1);
    }
    common(20, 1, 0xf);
  }
  void enable_messages(unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      device.write(0x4000 + 16 * i, 4, 0xfee0'0000, 0);
      device.write(0x4000 + 16 * i + 8, 4, 0x40 + i, 0);
      device.write(0x4000 + 16 * i + 12, 4, 0, 0);
    }
    unsigned at = device.config_read(0x34, 0) & 0xff;
    while ((device.config_read(at, 0) & 0xff) != 0x11)
      at = device.config_read(at, 0) >> 8 & 0xff;
    device.config_write(at + 2, 2, 0x8000, 0);
  }
  static std::uint64_t table(unsigned q) { return 0x1000 * (1 + q); }
  static std::uint64_t available(unsigned q) { return table(q) + 0x800; }
  static std::uint64_t used(unsigned q) { return table(q) + 0xc00; }
  void describe(std::uint64_t at, unsigned index, std::uint64_t gpa, std::uint32_t bytes,
                std::uint16_t flags, std::uint16_t next) {
    memory.put(at + 16 * index, gpa);
    memory.put(at + 16 * index + 8, bytes);
    memory.put(at + 16 * index + 12, flags);
    memory.put(at + 16 * index + 14, next);
  }
  void offer(unsigned q, std::uint16_t head) {
    const auto index = memory.get<std::uint16_t>(available(q) + 2);
    memory.put(available(q) + 4 + 2 * (index % queue_size), head);
    memory.put(available(q) + 2, static_cast<std::uint16_t>(index + 1));
  }
  void ring(unsigned q) {
    device.write(0x3000 + 4 * q, 2, q, now);
    REQUIRE(device.deadline_ns() <= now);
    device.advance(now);
    REQUIRE(device.deadline_ns() > now);
  }
  std::uint16_t used_count(unsigned q) const { return memory.get<std::uint16_t>(used(q) + 2); }
  std::uint32_t used_bytes(unsigned q, unsigned index) const {
    return memory.get<std::uint32_t>(used(q) + 8 + 8 * (index % queue_size));
  }
  unsigned status() { return static_cast<unsigned>(device.read(20, 1, 0)); }

  VirtioPci& device;
  TestMemory& memory;
  std::uint64_t now = 1000;
};

inline constexpr std::uint16_t chain_next = 1, chain_writable = 2, chain_indirect = 4;

}  // namespace node_mesh
