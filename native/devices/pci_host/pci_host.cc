#include "devices/pci_host/pci_host.h"

namespace node_mesh {

namespace {

constexpr std::uint32_t enabled = 0x8000'0000;  // of the address register
constexpr std::uint32_t function_bits = 0x00ff'ff00;
constexpr std::uint32_t register_bits = 0xfc;
constexpr std::uint32_t vendor_and_device = 0x0008'1b36;  // the generic host bridge
constexpr std::uint32_t class_host_bridge = 0x0600'0000;

}  // namespace

std::uint32_t PciHost::config() const {
  if ((address_ & enabled) == 0 || (address_ & function_bits) != 0) return UINT32_MAX;
  switch (address_ & register_bits) {
    case 0x00:
      return vendor_and_device;
    case 0x08:
      return class_host_bridge;
    default:
      return 0;
  }
}

std::uint32_t PciHost::read(std::uint16_t port, unsigned size, std::uint64_t) {
  const std::uint32_t mask = UINT32_MAX >> (32 - 8 * size);
  if (port == address_port) return size == 4 ? address_ : mask;
  const unsigned shift = 8u * (port - data_port);
  return (config() >> shift) & mask;
}

void PciHost::write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t) {
  if (port == address_port && size == 4) address_ = value & 0x80ff'fffc;
}

bool PciHost::load(StateReader& in) {
  address_ = in.u32();
  return in.ok();
}

}  // namespace node_mesh
