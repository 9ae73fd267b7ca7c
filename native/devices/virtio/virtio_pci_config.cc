// Configuration space of the virtio PCI transport: what a function says about itself, and which of
// its bytes the guest may change.
#include <algorithm>
#include <initializer_list>

#include "devices/virtio/virtio_pci.h"
#include "machine/check.h"

namespace node_mesh {
namespace {

constexpr unsigned vendor_red_hat = 0x1af4, device_modern = 0x1040;
constexpr unsigned command_at = 0x04, window_at = 0x10, capabilities_at = 0x34,
                   interrupt_line_at = 0x3c;
constexpr unsigned command_memory = 1u << 1;
constexpr unsigned status_interrupt = 1u << 3;
constexpr unsigned capability_vendor = 0x09, capability_messages = 0x11;
constexpr unsigned structure_bytes = 16, long_structure_bytes = 20, messages_bytes = 12;

// The parts of the window, as cfg_type of their capabilities; the offsets are virtio_pci.cc's.
struct Structure {
  unsigned type, offset, bytes;
};
constexpr Structure structures[] = {
    {1, 0x0000, 56}, {3, 0x1000, 1}, {4, 0x2000, 0x1000}, {2, 0x3000, 4 * VirtioPci::queues_max}};
constexpr unsigned type_doorbells = 2, type_by_config = 5;
constexpr unsigned message_table_at = 0x4000, message_pending_at = 0x5000;

}  // namespace

void VirtioPci::put_config(unsigned offset, unsigned size, std::uint32_t value) {
  for (unsigned i = 0; i < size; ++i)
    config_space_[offset + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

std::uint32_t VirtioPci::get_config(unsigned offset, unsigned size) const {
  std::uint32_t value = 0;
  for (unsigned i = 0; i < size; ++i)
    value |= std::uint32_t{config_space_[offset + i]} << (8 * i);
  return value;
}

void VirtioPci::build_config_space() {
  const auto writable = [this](unsigned offset, unsigned size, std::uint32_t bits) {
    for (unsigned i = 0; i < size; ++i)
      config_writable_[offset + i] = static_cast<std::uint8_t>(bits >> (8 * i));
  };
  put_config(0x00, 2, vendor_red_hat);
  put_config(0x02, 2, device_modern + static_cast<unsigned>(device_.type()));
  put_config(command_at, 2, command_memory);
  writable(command_at, 2, 0x0406);
  put_config(0x06, 2, 0x0010);  // there is a list of capabilities
  put_config(0x08, 1, 1);       // revision: no legacy interface
  put_config(0x09, 3, device_.pci_class());
  writable(0x0c, 1, 0xff);  // cache line size
  // As firmware leaves it: the window placed, its memory enabled, the interrupt line written down.
  put_config(window_at, 4, static_cast<std::uint32_t>(pci_memory_start + slot_ * window_bytes));
  writable(window_at, 4, ~(window_bytes - 1));
  put_config(0x2c, 2, vendor_red_hat);
  put_config(0x2e, 2, 0x1100);
  put_config(interrupt_line_at, 1, pci_interrupt_input(slot_));
  writable(interrupt_line_at, 1, 0xff);
  put_config(interrupt_line_at + 1, 1, 1);  // INTA
  add_capabilities();
}

void VirtioPci::add_capabilities() {
  unsigned link = capabilities_at, at = 0x40;
  const auto begin = [&](unsigned id, unsigned bytes) {
    put_config(link, 1, at);
    put_config(at, 1, id);
    link = at + 1;
    const unsigned place = at;
    at += (bytes + 3) & ~3u;
    NM_CHECK(at <= config_bytes);
    return place;
  };
  const auto add_structure = [&](const Structure& structure, unsigned bytes) {
    const unsigned place = begin(capability_vendor, bytes);
    put_config(place + 2, 1, bytes);
    put_config(place + 3, 1, structure.type);
    put_config(place + 8, 4, structure.offset);
    put_config(place + 12, 4, structure.bytes);
    return place;
  };
  for (const Structure& structure : structures) {
    if (structure.type != type_doorbells) {
      add_structure(structure, structure_bytes);
      continue;
    }
    const unsigned place = add_structure(structure, long_structure_bytes);
    put_config(place + 16, 4, 4);  // bytes from one doorbell to the next
  }
  window_capability_ = add_structure({type_by_config, 0, 0}, long_structure_bytes);
  config_writable_[window_capability_ + 4] = 0xff;
  std::ranges::fill_n(config_writable_.begin() + window_capability_ + 8, 12, std::uint8_t{0xff});

  messages_at_ = begin(capability_messages, messages_bytes);
  put_config(messages_at_ + 2, 2, static_cast<std::uint32_t>(messages_.size() - 1));
  config_writable_[messages_at_ + 3] = 0xc0;  // enable, mask all
  put_config(messages_at_ + 4, 4, message_table_at);
  put_config(messages_at_ + 8, 4, message_pending_at);
}

VirtioPci::WindowAccess VirtioPci::window_access() const {
  const std::uint32_t bar = get_config(window_capability_ + 4, 1);
  const std::uint32_t offset = get_config(window_capability_ + 8, 4);
  const std::uint32_t size = get_config(window_capability_ + 12, 4);
  const bool sized = size == 1 || size == 2 || size == 4;
  if (bar != 0 || !sized || offset % size != 0 || offset >= window_bytes) return {};
  return {offset, size};
}

std::uint32_t VirtioPci::config_read(unsigned offset, std::uint64_t now_ns) {
  if (offset == window_capability_ + 16) {
    const WindowAccess access = window_access();
    if (access.size == 0) return 0;
    return static_cast<std::uint32_t>(read(access.offset, access.size, now_ns));
  }
  const std::uint32_t value = get_config(offset, 4);
  if (offset != command_at || interrupt_status_ == 0) return value;
  return value | status_interrupt << 16;
}

void VirtioPci::config_write(unsigned offset, unsigned size, std::uint32_t value,
                             std::uint64_t now_ns) {
  for (unsigned i = 0; i < size; ++i) {
    const std::uint8_t bits = config_writable_[offset + i];
    config_space_[offset + i] =
        static_cast<std::uint8_t>((config_space_[offset + i] & ~bits) | (value >> (8 * i) & bits));
  }
  if (offset == window_capability_ + 16) {
    const WindowAccess access = window_access();
    if (access.size != 0) {
      write(access.offset, access.size, get_config(window_capability_ + 16, access.size), now_ns);
    }
  }
  send_pending();
  update_pin();
}

VirtioPci::Window VirtioPci::window() const {
  if ((command() & command_memory) == 0) return {};
  return {get_config(window_at, 4) & ~(window_bytes - 1), window_bytes};
}

}  // namespace node_mesh
