// The local APIC of the one CPU, in xAPIC mode: interrupt acceptance and priorities, the timer
// (one-shot, periodic, TSC deadline), LINT0 as the way in for the 8259s, and self-addressed IPIs.
// x2APIC mode is not offered; NMI, SMI, INIT and start-up IPIs have nobody to go to and are
// dropped.
#pragma once

#include <array>
#include <cstdint>

#include "devices/device.h"

namespace node_mesh {

// Told when the guest ends a level-triggered interrupt.
class EndOfInterruptSink {
 public:
  virtual ~EndOfInterruptSink() = default;
  virtual void level_interrupt_ended(std::uint8_t vector) = 0;
};

class Lapic final : public MmioDevice {
 public:
  static constexpr std::uint64_t default_base = 0xfee0'0000;
  static constexpr std::uint64_t window_bytes = 0x1000;
  static constexpr std::uint32_t msr_apic_base = 0x1b;
  static constexpr std::uint32_t msr_tsc_deadline = 0x6e0;
  // The timer's input clock: the core crystal that CPUID leaf 15h names.
  static constexpr std::uint64_t tick_ns = 40;

  std::string_view name() const override { return "lapic"; }
  std::uint64_t read(std::uint64_t offset, unsigned size, std::uint64_t now_ns) override;
  void write(std::uint64_t offset, unsigned size, std::uint64_t value,
             std::uint64_t now_ns) override;
  std::uint64_t deadline_ns() const override;
  void advance(std::uint64_t now_ns) override;
  void save(StateWriter& out) const override;
  bool load(StateReader& in) override;

  void set_end_of_interrupt_sink(EndOfInterruptSink* sink) { sink_ = sink; }

  bool globally_enabled() const { return (base_msr_ & base_enabled) != 0; }
  std::uint64_t base() const { return base_msr_ & base_address; }
  bool msr_read(std::uint32_t index, std::uint64_t& value) const;
  bool msr_write(std::uint32_t index, std::uint64_t value, std::uint64_t now_ns);
  // Guest TSC minus virtual time. The CPU owns it; it is no state of this device.
  void set_tsc_offset(std::uint64_t offset) { tsc_offset_ = offset; }

  // An interrupt message from the I/O APIC. False when it is not addressed to this CPU.
  bool deliver(std::uint8_t destination, bool logical, std::uint8_t vector, bool level);
  // LINT0, to which the 8259s are wired.
  void set_lint0(bool asserted);
  bool passes_external_interrupts() const;  // LINT0 stands for the 8259s' INTR

  bool interrupt_pending() const;
  std::uint8_t acknowledge();  // the spurious vector when nothing is pending any more

 private:
  static constexpr std::uint64_t base_enabled = 1u << 11, base_bootstrap = 1u << 8;
  static constexpr std::uint64_t base_address = 0xff'ffff'f000;  // 40 physical bits
  enum LocalVector : unsigned { timer, thermal, counter, lint0, lint1, error, local_vectors };
  using Vectors = std::array<std::uint32_t, 8>;  // 256 bits

  bool software_enabled() const { return (spurious_ & 0x100) != 0; }
  std::uint32_t processor_priority() const;
  void accept(std::uint8_t vector, bool level);
  void raise_error(std::uint32_t bit);
  void end_of_interrupt();
  void send_ipi(std::uint32_t command);
  bool addressed(std::uint8_t destination, bool logical) const;
  void fire_local(LocalVector which);
  unsigned timer_mode() const { return (lvt_[timer] >> 17) & 3u; }
  std::uint64_t timer_unit_ns() const;
  std::uint32_t current_count(std::uint64_t now_ns) const;
  void start_timer(std::uint32_t count, std::uint64_t now_ns);
  void write_local_vector(LocalVector which, std::uint32_t value);
  void set_divide(std::uint32_t value, std::uint64_t now_ns);
  std::uint32_t read_register(unsigned index, std::uint64_t now_ns);
  void write_register(unsigned index, std::uint32_t value, std::uint64_t now_ns);
  void disable_local_vectors();

  EndOfInterruptSink* sink_ = nullptr;
  std::uint64_t tsc_offset_ = 0;
  std::uint64_t base_msr_ = default_base | base_enabled | base_bootstrap;
  std::uint32_t id_ = 0, task_priority_ = 0, logical_destination_ = 0;
  std::uint32_t destination_format_ = 0xffff'ffff;
  // As firmware leaves it: enabled, LINT0 passing the 8259s through, LINT1 NMI.
  std::uint32_t spurious_ = 0x1ff;
  std::array<std::uint32_t, local_vectors> lvt_{0x10000, 0x10000, 0x10000, 0x700, 0x400, 0x10000};
  Vectors request_{}, service_{}, level_{};
  std::uint32_t error_status_ = 0, errors_seen_ = 0;
  std::uint32_t command_low_ = 0, command_high_ = 0;
  std::uint32_t initial_count_ = 0, divide_ = 0;
  std::uint64_t timer_start_ns_ = 0;
  std::uint64_t timer_periods_told_ = 0;
  std::uint64_t tsc_deadline_ = 0;
  bool lint0_asserted_ = false;
};

}  // namespace node_mesh
