// The I/O APIC: 24 inputs whose redirection entries say which interrupt message each sends to the
// local APIC. The ISA lines arrive at their own numbers, but for the timer, which is wired to
// input 2.
#pragma once

#include <array>
#include <cstdint>

#include "devices/device.h"
#include "devices/lapic/lapic.h"

namespace node_mesh {

class Ioapic final : public MmioDevice, public EndOfInterruptSink {
 public:
  static constexpr std::uint64_t base = 0xfec0'0000;
  static constexpr std::uint64_t window_bytes = 0x1000;
  static constexpr unsigned pins = 24;
  static constexpr std::uint8_t id = 1;

  explicit Ioapic(Lapic& lapic);

  std::string_view name() const override { return "ioapic"; }
  std::uint64_t read(std::uint64_t offset, unsigned size, std::uint64_t now_ns) override;
  void write(std::uint64_t offset, unsigned size, std::uint64_t value,
             std::uint64_t now_ns) override;
  void save(StateWriter& out) const override;
  bool load(StateReader& in) override;

  void set_isa_irq(unsigned irq, bool asserted) { set_pin(irq == 0 ? 2 : irq, asserted); }
  void set_pin(unsigned pin, bool asserted);
  void level_interrupt_ended(std::uint8_t vector) override;

 private:
  std::uint32_t read_register() const;
  void write_register(std::uint32_t value);
  void service(unsigned pin);

  Lapic& lapic_;
  std::uint8_t select_ = 0;
  std::uint32_t id_register_ = std::uint32_t{id} << 24;
  std::uint32_t lines_ = 0;    // the input pins
  std::uint32_t pending_ = 0;  // latched edges not sent yet
  std::array<std::uint64_t, pins> entries_;
};

}  // namespace node_mesh
