#include "devices/pci_host/pci_host.h"

namespace node_mesh {

std::uint32_t PciHost::read(std::uint16_t port, unsigned size, std::uint64_t) {
  if (port == address_port && size == 4) return address_;
  return UINT32_MAX >> (32 - 8 * size);
}

void PciHost::write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t) {
  if (port == address_port && size == 4) address_ = value & 0x80ff'fffc;
}

bool PciHost::load(StateReader& in) {
  address_ = in.u32();
  return in.ok();
}

}  // namespace node_mesh
