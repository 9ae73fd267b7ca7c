// A bare guest for CPU tests: RAM, page tables, descriptor tables and one halting handler for each
// vector, with code given as bytes. Kernel and user mode share the low 8 MiB, mapped one to one;
// the kernel also sees them at `kernel_base`.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "cpu/bus.h"
#include "cpu/cpu.h"
#include "machine/check.h"
#include "machine/guest_memory.h"

namespace node_mesh::cpu_test {

using Bytes = std::vector<std::uint8_t>;

inline constexpr std::uint64_t guest_bytes = 8 << 20;
inline constexpr std::uint64_t kernel_base = 0xffff800000000000;
inline constexpr std::uint64_t pml4_at = 0x1000, page_table_at = 0x4000, high_pdpt_at = 0xa000;
inline constexpr std::uint64_t gdt_at = 0xc000, idt_at = 0xd000, tss_at = 0xe000;
inline constexpr std::uint64_t handlers_at = 0x10000, handler_bytes = 64;
inline constexpr std::uint64_t code_at = 0x100000, stack_top = 0x210000,
                               kernel_stack_top = 0x220000;
inline constexpr std::uint64_t data_at = 0x300000;
inline constexpr std::uint16_t kernel_code = 0x10, kernel_data = 0x18, user_code32 = 0x23,
                               user_data = 0x2b, user_code = 0x33, task_segment = 0x40;
inline constexpr std::uint64_t flag_tf = 0x100, flag_if = 0x200;
inline constexpr Position forever{1'000'000, 0};

// Port 0x10 lowers the interrupt line, other accesses are recorded.
class TestBus final : public Bus {
 public:
  std::uint64_t pio_read(std::uint16_t port, unsigned) override {
    reads.push_back(port);
    return 0x5a5a5a5a;
  }
  void pio_write(std::uint16_t port, unsigned, std::uint64_t value) override {
    if (port == 0x10) {
      cpu->set_interrupt_line(false);
    } else {
      writes.push_back(value);
    }
  }
  std::uint64_t mmio_read(std::uint64_t gpa, unsigned) override {
    seen.push_back(cpu->position());
    return gpa;
  }
  void mmio_write(std::uint64_t, unsigned, std::uint64_t value) override {
    seen.push_back(cpu->position());
    writes.push_back(value);
  }
  std::uint64_t time_stamp(std::uint64_t steps) override { return steps; }
  bool time_sync_due(std::uint64_t) override { return time_due; }
  bool reschedule_requested() override { return std::exchange(reschedule, false); }
  std::uint8_t acknowledge_interrupt() override { return 0x40; }
  bool msr_read(std::uint32_t, std::uint64_t&) override { return false; }
  bool msr_write(std::uint32_t, std::uint64_t) override { return false; }
  CpuidResult cpuid(std::uint32_t leaf, std::uint32_t) override { return {leaf, 1, 2, 3}; }

  Cpu* cpu = nullptr;
  bool time_due = false, reschedule = false;
  std::vector<std::uint16_t> reads;
  std::vector<std::uint64_t> writes;
  std::vector<Position> seen;
};

// What the handler of an exception finds on its stack.
struct Frame {
  int vector = -1;
  std::uint64_t error = 0, rip = 0, cs = 0, rflags = 0, rsp = 0, ss = 0;
};

class TestGuest {
 public:
  TestGuest();

  void put(std::uint64_t gpa, std::span<const std::uint8_t> bytes) {
    NM_CHECK(memory.write(gpa, std::as_bytes(bytes)));
    cpu.memory_written(gpa, bytes.size());
  }
  void put(std::uint64_t gpa, std::initializer_list<std::uint8_t> bytes) {
    put(gpa, std::span(bytes.begin(), bytes.size()));
  }
  void put64(std::uint64_t gpa, std::uint64_t value) {
    put(gpa, std::bit_cast<std::array<std::uint8_t, 8>>(value));
  }
  std::uint64_t get64(std::uint64_t gpa) const {
    std::array<std::byte, 8> bytes{};
    NM_CHECK(memory.read(gpa, bytes));
    return std::bit_cast<std::uint64_t>(bytes);
  }
  static std::uint64_t entry_gpa(std::uint64_t va) { return page_table_at + (va >> 12) * 8; }

  // A state at `code_at`: at CPL 0, at CPL 3, or in 32-bit user code.
  CpuSnapshot kernel_state() const;
  CpuSnapshot user_state() const;
  CpuSnapshot user32_state() const;

  // Runs until the CPU halts (in a handler, mostly) or something ends the run.
  RunExit run(const CpuSnapshot& from, Position limit = forever) {
    cpu.restore(from);
    return cpu.run(limit);
  }
  // The frame of the handler that the CPU halted in.
  Frame frame() const;

  GuestMemory memory;
  TestBus bus;
  Cpu cpu;
};

}  // namespace node_mesh::cpu_test
