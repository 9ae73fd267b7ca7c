// The fixed power management registers of ACPI: soft-off by PM1_CNT and the power button by
// PM1_STS. The ACPI tables that announce them are built by the machine's loader.
#pragma once

#include "devices/device.h"

namespace node_mesh {

class AcpiPm final : public PortDevice {
 public:
  static constexpr std::uint16_t base_port = 0x600;
  static constexpr std::uint16_t event_port = base_port;        // status word, enable word
  static constexpr std::uint16_t control_port = base_port + 4;  // control word
  static constexpr std::uint16_t port_count = 6;
  static constexpr unsigned irq = 9;                 // SCI, level-triggered
  static constexpr std::uint8_t sleep_type_off = 5;  // as \_S5 in the DSDT says

  AcpiPm(InterruptLines& lines, PowerSwitch& power) : lines_(lines), power_(power) {}

  std::string_view name() const override { return "acpi_pm"; }
  std::uint32_t read(std::uint16_t port, unsigned size, std::uint64_t now_ns) override;
  void write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t now_ns) override;
  void save(StateWriter& out) const override;
  bool load(StateReader& in) override;

  void press_power_button();

 private:
  std::uint8_t read_byte(unsigned index) const;
  void write_byte(unsigned index, std::uint8_t value);
  void update_irq();

  InterruptLines& lines_;
  PowerSwitch& power_;
  std::uint16_t status_ = 0, enable_ = 0;
  std::uint16_t control_ = 1;  // SCI_EN: there is no other mode
  bool irq_asserted_ = false;
};

}  // namespace node_mesh
