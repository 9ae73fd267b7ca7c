#include "devices/pci_host/pci_host.h"

#include "machine/check.h"

namespace node_mesh {

namespace {

constexpr std::uint32_t enabled = 0x8000'0000;  // of the address register
constexpr std::uint32_t bus_and_function = 0x00ff'0700;
constexpr unsigned slot_shift = 11;
constexpr std::uint32_t register_bits = 0xfc;
constexpr std::uint32_t vendor_and_device = 0x0008'1b36;  // the generic host bridge
constexpr std::uint32_t class_host_bridge = 0x0600'0000;

}  // namespace

void PciHost::add(PciFunction& function, unsigned slot) {
  NM_CHECK(slot > 0 && slot < pci_slots && slots_[slot] == nullptr);
  slots_[slot] = &function;
}

PciFunction* PciHost::addressed() const {
  if ((address_ & enabled) == 0 || (address_ & bus_and_function) != 0) return nullptr;
  return slots_[address_ >> slot_shift & (pci_slots - 1)];
}

std::uint32_t PciHost::config(std::uint64_t now_ns) {
  if (PciFunction* function = addressed()) {
    return function->config_read(address_ & register_bits, now_ns);
  }
  const bool bridge = (address_ & enabled) != 0 && (address_ & 0x00ff'ff00) == 0;
  if (!bridge) return UINT32_MAX;
  switch (address_ & register_bits) {
    case 0x00:
      return vendor_and_device;
    case 0x08:
      return class_host_bridge;
    default:
      return 0;
  }
}

std::uint32_t PciHost::read(std::uint16_t port, unsigned size, std::uint64_t now_ns) {
  const std::uint32_t mask = UINT32_MAX >> (32 - 8 * size);
  if (port == address_port) return size == 4 ? address_ : mask;
  const unsigned shift = 8u * (port - data_port);
  return (config(now_ns) >> shift) & mask;
}

void PciHost::write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t now_ns) {
  if (port == address_port) {
    if (size == 4) address_ = value & 0x80ff'fffc;
    return;
  }
  const unsigned byte = port - data_port;
  PciFunction* function = addressed();
  if (function == nullptr || byte + size > 4) return;
  function->config_write((address_ & register_bits) + byte, size, value, now_ns);
}

PciHost::Target PciHost::memory_target(std::uint64_t gpa, unsigned size) const {
  for (PciFunction* function : slots_) {
    if (function == nullptr) continue;
    const PciFunction::Window window = function->window();
    if (gpa >= window.base && gpa - window.base < window.bytes &&
        window.bytes - (gpa - window.base) >= size) {
      return {function, gpa - window.base};
    }
  }
  return {};
}

bool PciHost::load(StateReader& in) {
  address_ = in.u32();
  return in.ok();
}

}  // namespace node_mesh
