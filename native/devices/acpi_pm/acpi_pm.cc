#include "devices/acpi_pm/acpi_pm.h"

namespace node_mesh {
namespace {

constexpr std::uint16_t power_button_bit = 1u << 8;
constexpr std::uint16_t status_bits = power_button_bit;
// Timer, global lock, both buttons, RTC: operating systems read back what they enabled, also for
// events that never come.
constexpr std::uint16_t enable_bits = 0x0721;
constexpr std::uint16_t control_sci_enable = 1u << 0;
constexpr std::uint16_t control_sleep_type = 7u << 10;
constexpr std::uint8_t sleep_enable_in_high_byte = 1u << 5;

}  // namespace

std::uint8_t AcpiPm::read_byte(unsigned index) const {
  const std::uint16_t word = index < 2 ? status_ : index < 4 ? enable_ : control_;
  return static_cast<std::uint8_t>((index & 1u) != 0 ? word >> 8 : word);
}

void AcpiPm::write_byte(unsigned index, std::uint8_t value) {
  const bool high = (index & 1u) != 0;
  const std::uint16_t bits = static_cast<std::uint16_t>(high ? value << 8 : value);
  const std::uint16_t kept = high ? 0x00ff : 0xff00;
  if (index < 2) {
    status_ &= static_cast<std::uint16_t>(~bits);  // a one clears
  } else if (index < 4) {
    enable_ = static_cast<std::uint16_t>(((enable_ & kept) | bits) & enable_bits);
  } else {
    control_ = static_cast<std::uint16_t>((((control_ & kept) | bits) & control_sleep_type) |
                                          control_sci_enable);
    const unsigned sleep_type = (control_ & control_sleep_type) >> 10;
    if (high && (value & sleep_enable_in_high_byte) != 0 && sleep_type == sleep_type_off) {
      power_.power_off();
    }
  }
}

std::uint32_t AcpiPm::read(std::uint16_t port, unsigned size, std::uint64_t) {
  std::uint32_t value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const unsigned index = port - base_port + i;
    value |= (index < port_count ? std::uint32_t{read_byte(index)} : 0xffu) << (8 * i);
  }
  return value;
}

void AcpiPm::write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t) {
  for (unsigned i = 0; i < size; ++i) {
    const unsigned index = port - base_port + i;
    if (index < port_count) write_byte(index, static_cast<std::uint8_t>(value >> (8 * i)));
  }
  update_irq();
}

void AcpiPm::press_power_button() {
  status_ |= power_button_bit;
  update_irq();
}

void AcpiPm::update_irq() {
  const bool asserted = (status_ & enable_ & status_bits) != 0;
  if (asserted == irq_asserted_) return;
  irq_asserted_ = asserted;
  lines_.set_irq(irq, asserted);
}

void AcpiPm::save(StateWriter& out) const {
  for (const std::uint16_t value : {status_, enable_, control_})
    out.u16(value);
  out.flag(irq_asserted_);
}

bool AcpiPm::load(StateReader& in) {
  for (std::uint16_t* value : {&status_, &enable_, &control_})
    *value = in.u16();
  irq_asserted_ = in.flag();
  return in.ok();
}

}  // namespace node_mesh
