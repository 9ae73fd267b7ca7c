// The devices on the PCI bus that a machine's configuration asks for, and their way to memory and
// to the interrupt controllers.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "devices/ioapic/ioapic.h"
#include "devices/lapic/lapic.h"
#include "devices/pci_host/pci_host.h"
#include "devices/virtio/virtio_pci.h"
#include "devices/virtio_blk/virtio_blk.h"
#include "devices/virtio_net/virtio_net.h"
#include "devices/virtio_rng/virtio_rng.h"
#include "machine/guest_memory.h"
#include "machine/machine.h"
#include "machine/machine_config.h"

namespace node_mesh {

class Cpu;

class PciDevices final : GuestDma, PciInterrupts, NetworkSink {
 public:
  // Slots of the bus. A device keeps its slot whatever else is there.
  static constexpr unsigned rng_slot = 1, network_slot = 2, first_disk_slot = 4;

  PciDevices(const MachineConfig& config, GuestMemory& memory, const MachineDisks& disks,
             Lapic& lapic, Ioapic& ioapic, PciHost& host);
  PciDevices(const PciDevices&) = delete;
  PciDevices& operator=(const PciDevices&) = delete;

  void attach_cpu(Cpu& cpu) { cpu_ = &cpu; }
  void set_network_sink(NetworkSink* sink) { network_sink_ = sink; }

  std::uint64_t deadline_ns() const;
  void advance(std::uint64_t now_ns);
  // In the order of their slots.
  const std::vector<std::unique_ptr<VirtioPci>>& transports() const { return transports_; }

  VirtioRng* rng() { return rng_ ? &*rng_ : nullptr; }
  const VirtioRng* rng() const { return rng_ ? &*rng_ : nullptr; }
  VirtioNet* network() { return network_ ? &*network_ : nullptr; }
  const VirtioNet* network() const { return network_ ? &*network_ : nullptr; }

  // What a disk said when the host could not serve it, the first time.
  const std::string& host_failure() const { return host_failure_; }

 private:
  void add(VirtioDevice& device, unsigned slot, PciHost& host);

  bool contains(std::uint64_t gpa, std::uint64_t bytes) const override;
  bool read(std::uint64_t gpa, std::span<std::byte> into) const override;
  bool write(std::uint64_t gpa, std::span<const std::byte> from) override;
  void set_pci_interrupt(unsigned slot, bool asserted) override;
  void send_message(std::uint64_t address, std::uint32_t data) override;
  void network_output(std::uint64_t number, std::span<const std::byte> frame) override;

  GuestMemory& memory_;
  Lapic& lapic_;
  Ioapic& ioapic_;
  Cpu* cpu_ = nullptr;
  NetworkSink* network_sink_ = nullptr;
  std::optional<VirtioRng> rng_;
  std::optional<VirtioNet> network_;
  std::vector<std::unique_ptr<VirtioBlk>> disks_;
  std::string host_failure_;
  std::vector<std::unique_ptr<VirtioPci>> transports_;
};

}  // namespace node_mesh
