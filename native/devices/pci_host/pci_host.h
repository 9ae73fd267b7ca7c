// PCI configuration mechanism 1 over a bus with nothing but the host bridge itself at 00:00.0,
// which is what a kernel looks for before it believes in PCI. Every other function answers with all
// ones.
#pragma once

#include "devices/device.h"

namespace node_mesh {

class PciHost final : public PortDevice {
 public:
  static constexpr std::uint16_t address_port = 0xcf8;  // 4 ports, only as one doubleword
  static constexpr std::uint16_t data_port = 0xcfc;     // 4 ports

  std::string_view name() const override { return "pci_host"; }
  std::uint32_t read(std::uint16_t port, unsigned size, std::uint64_t now_ns) override;
  void write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t now_ns) override;
  void save(StateWriter& out) const override { out.u32(address_); }
  bool load(StateReader& in) override;

 private:
  std::uint32_t config() const;  // the addressed doubleword

  std::uint32_t address_ = 0;
};

}  // namespace node_mesh
