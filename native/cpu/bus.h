// What the CPU sees beyond RAM. Implemented by the machine; each call happens at an exact position.
#pragma once

#include <cstdint>

namespace node_mesh {

class Bus {
 public:
  virtual ~Bus() = default;

  // Port and memory-mapped I/O; `size` is 1, 2, 4 (port) or 1, 2, 4, 8 bytes (memory). Addresses
  // with no device read as all ones; writes to them are dropped.
  virtual std::uint64_t pio_read(std::uint16_t port, unsigned size) = 0;
  virtual void pio_write(std::uint16_t port, unsigned size, std::uint64_t value) = 0;
  virtual std::uint64_t mmio_read(std::uint64_t gpa, unsigned size) = 0;
  virtual void mmio_write(std::uint64_t gpa, unsigned size, std::uint64_t value) = 0;

  // Virtual time stamp counter at `steps`, before the offset that the guest set with WRMSR.
  virtual std::uint64_t time_stamp(std::uint64_t steps) = 0;

  // Asked before each instruction that reads time (RDTSC, RDTSCP, RDMSR TSC) and before each port
  // or memory-mapped read: true makes the CPU leave the run with RunExit::time_read in front of
  // that instruction, so that the recorder may first set the clock.
  virtual bool time_sync_due(std::uint64_t steps) = 0;

  // Asked after each port or memory-mapped access: true ends the run with RunExit::rescheduled
  // behind that instruction. Reading it clears it.
  virtual bool reschedule_requested() = 0;

  // The interrupt acknowledge cycle: the vector to deliver (a spurious one if the line dropped).
  virtual std::uint8_t acknowledge_interrupt() = 0;

  // Model specific registers that belong to a device (the local APIC): false = not mine.
  virtual bool msr_read(std::uint32_t index, std::uint64_t& value) = 0;
  virtual bool msr_write(std::uint32_t index, std::uint64_t value) = 0;

  // The CPU model that the guest sees (leaf, subleaf -> eax, ebx, ecx, edx).
  struct CpuidResult {
    std::uint32_t eax, ebx, ecx, edx;
  };
  virtual CpuidResult cpuid(std::uint32_t leaf, std::uint32_t subleaf) = 0;
};

}  // namespace node_mesh
