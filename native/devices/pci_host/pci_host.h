// PCI configuration mechanism 1 over one bus: the host bridge itself at 00:00.0, which is what a
// kernel looks for before it believes in PCI, and the functions that were put into slots. Whatever
// is not there answers with all ones.
#pragma once

#include <array>

#include "devices/pci_host/pci_function.h"

namespace node_mesh {

class PciHost final : public PortDevice {
 public:
  static constexpr std::uint16_t address_port = 0xcf8;  // 4 ports, only as one doubleword
  static constexpr std::uint16_t data_port = 0xcfc;     // 4 ports

  // Slot 0 is the bridge's own. The function must outlive the bridge.
  void add(PciFunction& function, unsigned slot);

  std::string_view name() const override { return "pci_host"; }
  std::uint32_t read(std::uint16_t port, unsigned size, std::uint64_t now_ns) override;
  void write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t now_ns) override;
  void save(StateWriter& out) const override { out.u32(address_); }
  bool load(StateReader& in) override;

  // Whose memory window an access lies in; the lowest slot where two overlap.
  struct Target {
    PciFunction* function = nullptr;
    std::uint64_t offset = 0;
  };
  Target memory_target(std::uint64_t gpa, unsigned size) const;

 private:
  std::uint32_t config(std::uint64_t now_ns);  // the addressed doubleword
  PciFunction* addressed() const;

  std::uint32_t address_ = 0;
  std::array<PciFunction*, pci_slots> slots_{};
};

}  // namespace node_mesh
