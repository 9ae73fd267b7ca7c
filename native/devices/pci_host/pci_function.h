// What sits in a slot of the PCI bus: configuration space and one memory window, and where its
// interrupts go. The host bridge decides by slot and address who is asked.
#pragma once

#include "devices/device.h"

namespace node_mesh {

inline constexpr unsigned pci_slots = 32;  // of the one bus; each has function 0 alone

// Memory that firmware gives to windows of functions; the ACPI tables announce it.
inline constexpr std::uint64_t pci_memory_start = 0xd000'0000;
inline constexpr std::uint64_t pci_memory_end = 0xe000'0000;

// The inputs of the I/O APIC that the slots' INTA pins are wired to; the ACPI tables say the same.
constexpr unsigned pci_interrupt_input(unsigned slot) { return 16 + slot % 8; }

class PciInterrupts {
 public:
  virtual ~PciInterrupts() = default;
  // The INTA pin of a slot. Level: true = asserted.
  virtual void set_pci_interrupt(unsigned slot, bool asserted) = 0;
  // A message-signalled interrupt: a doubleword written to the address.
  virtual void send_message(std::uint64_t address, std::uint32_t data) = 0;
};

class PciFunction : public MmioDevice {
 public:
  // The doubleword at `offset`, a multiple of 4 below 256.
  virtual std::uint32_t config_read(unsigned offset, std::uint64_t now_ns) = 0;
  // `size` bytes at `offset` that do not cross a doubleword.
  virtual void config_write(unsigned offset, unsigned size, std::uint32_t value,
                            std::uint64_t now_ns) = 0;
  // Where its memory answers now; no bytes: nowhere.
  struct Window {
    std::uint64_t base = 0;
    std::uint64_t bytes = 0;
  };
  virtual Window window() const = 0;
};

}  // namespace node_mesh
