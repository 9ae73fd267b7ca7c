#include "machine/pci_devices.h"

#include <algorithm>

#include "cpu/cpu.h"

namespace node_mesh {

PciDevices::PciDevices(const MachineConfig& config, GuestMemory& memory, const MachineDisks& disks,
                       Lapic& lapic, Ioapic& ioapic, PciHost& host)
    : memory_(memory), lapic_(lapic), ioapic_(ioapic) {
  if (config.rng) add(rng_.emplace(), rng_slot, host);
  if (config.network) {
    add(network_.emplace(*config.network, static_cast<NetworkSink&>(*this)), network_slot, host);
  }
  const auto failed = [this](const std::string& why) {
    if (host_failure_.empty()) host_failure_ = "Cannot serve a disk of the guest: " + why;
  };
  for (unsigned i = 0; i < disks.size(); ++i) {
    disks_.push_back(std::make_unique<VirtioBlk>(i, *disks[i], config.disks[i].read_only, failed));
    add(*disks_.back(), first_disk_slot + i, host);
  }
}

void PciDevices::add(VirtioDevice& device, unsigned slot, PciHost& host) {
  transports_.push_back(std::make_unique<VirtioPci>(device, slot, static_cast<GuestDma&>(*this),
                                                    static_cast<PciInterrupts&>(*this)));
  host.add(*transports_.back(), slot);
}

std::uint64_t PciDevices::deadline_ns() const {
  std::uint64_t earliest = no_deadline;
  for (const auto& transport : transports_)
    earliest = std::min(earliest, transport->deadline_ns());
  return earliest;
}

void PciDevices::advance(std::uint64_t now_ns) {
  for (const auto& transport : transports_)
    transport->advance(now_ns);
}

bool PciDevices::contains(std::uint64_t gpa, std::uint64_t bytes) const {
  return memory_.contains(gpa, bytes);
}

bool PciDevices::read(std::uint64_t gpa, std::span<std::byte> into) const {
  return memory_.read(gpa, into);
}

bool PciDevices::write(std::uint64_t gpa, std::span<const std::byte> from) {
  if (!memory_.write(gpa, from)) return false;
  cpu_->memory_written(gpa, from.size());
  return true;
}

// Slots share the inputs of the I/O APIC: an input is up while any of its slots asserts its pin.
void PciDevices::set_pci_interrupt(unsigned slot, bool) {
  const unsigned input = pci_interrupt_input(slot);
  const bool any = std::ranges::any_of(transports_, [input](const auto& transport) {
    return pci_interrupt_input(transport->slot()) == input && transport->interrupt_pin();
  });
  ioapic_.set_pin(input, any);
}

void PciDevices::send_message(std::uint64_t address, std::uint32_t data) {
  constexpr std::uint64_t messages_base = 0xfee0'0000, messages_bytes = 0x10'0000;
  constexpr std::uint64_t logical = 1u << 2;
  constexpr unsigned delivery_lowest = 1;  // as fixed, with one CPU; the rest has no taker
  if (address < messages_base || address - messages_base >= messages_bytes) return;
  if ((data >> 8 & 7u) > delivery_lowest) return;
  lapic_.deliver(static_cast<std::uint8_t>(address >> 12), (address & logical) != 0,
                 static_cast<std::uint8_t>(data), false);
}

void PciDevices::network_output(std::uint64_t number, std::span<const std::byte> frame) {
  if (network_sink_ != nullptr) network_sink_->network_output(number, frame);
}

}  // namespace node_mesh
