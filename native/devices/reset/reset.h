// The two ways of old to reset a PC: the keyboard controller's pulse command on port 64h and the
// chipset's reset register CF9h. There is no keyboard controller behind port 64h: it reads as all
// ones, by which a driver sees that it is absent.
#pragma once

#include "devices/device.h"

namespace node_mesh {

class Reset final : public PortDevice {
 public:
  static constexpr std::uint16_t keyboard_port = 0x64;
  static constexpr std::uint16_t reset_port = 0xcf9;

  explicit Reset(PowerSwitch& power) : power_(power) {}

  std::string_view name() const override { return "reset"; }
  std::uint32_t read(std::uint16_t port, unsigned size, std::uint64_t now_ns) override;
  void write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t now_ns) override;
  void save(StateWriter& out) const override { out.u8(control_); }
  bool load(StateReader& in) override;

 private:
  PowerSwitch& power_;
  std::uint8_t control_ = 0;
};

}  // namespace node_mesh
