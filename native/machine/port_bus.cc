#include "machine/port_bus.h"

#include "machine/check.h"

namespace node_mesh {

void PortBus::add(PortDevice& device, std::uint16_t first, std::uint16_t count, Width width) {
  entries_.push_back({&device, width});
  NM_CHECK(entries_.size() < 256 && first + count <= 65536);
  for (unsigned port = first; port < unsigned{first} + count; ++port) {
    NM_CHECK(index_[port] == 0);
    index_[port] = static_cast<std::uint8_t>(entries_.size());
  }
}

const PortBus::Entry* PortBus::entry_at(std::uint32_t port) const {
  if (port > 0xffff || index_[port] == 0) return nullptr;
  return &entries_[index_[port] - 1u];
}

std::uint32_t PortBus::read(std::uint16_t port, unsigned size, std::uint64_t now_ns) {
  const Entry* whole = entry_at(port);
  if (whole != nullptr && whole->width == Width::any) {
    return whole->device->read(port, size, now_ns);
  }
  std::uint32_t value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const std::uint32_t at = port + i;
    const Entry* entry = entry_at(at);
    const std::uint32_t byte =
        entry == nullptr ? 0xff
                         : entry->device->read(static_cast<std::uint16_t>(at), 1, now_ns) & 0xff;
    value |= byte << (8 * i);
  }
  return value;
}

void PortBus::write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t now_ns) {
  const Entry* whole = entry_at(port);
  if (whole != nullptr && whole->width == Width::any) {
    whole->device->write(port, size, value, now_ns);
    return;
  }
  for (unsigned i = 0; i < size; ++i) {
    const std::uint32_t at = port + i;
    const Entry* entry = entry_at(at);
    if (entry == nullptr) continue;
    entry->device->write(static_cast<std::uint16_t>(at), 1, value >> (8 * i) & 0xff, now_ns);
  }
}

}  // namespace node_mesh
