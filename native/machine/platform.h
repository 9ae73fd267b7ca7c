// The devices of the PC, their wiring, and the bus that the CPU sees. It owns the devices and
// decides where interrupts go and who answers at which address; when time passes is the machine's
// affair.
#pragma once

#include <expected>
#include <span>
#include <string>
#include <vector>

#include "cpu/bus.h"
#include "cpu/cpu.h"
#include "devices/acpi_pm/acpi_pm.h"
#include "devices/ioapic/ioapic.h"
#include "devices/lapic/lapic.h"
#include "devices/pci_host/pci_host.h"
#include "devices/pic/pic.h"
#include "devices/pit/pit.h"
#include "devices/reset/reset.h"
#include "devices/rtc/rtc.h"
#include "devices/serial/serial.h"
#include "machine/machine.h"
#include "machine/pci_devices.h"
#include "machine/port_bus.h"
#include "machine/virtual_clock.h"

namespace node_mesh {

class Platform final : public Bus, InterruptLines, PowerSwitch, SerialOutput {
 public:
  Platform(const MachineConfig& config, GuestMemory& memory, const MachineDisks& disks,
           ConsoleSink& console);
  Platform(const Platform&) = delete;
  Platform& operator=(const Platform&) = delete;

  // The CPU is built on this bus, so it comes second.
  void attach_cpu(Cpu& cpu) {
    cpu_ = &cpu;
    pci_.attach_cpu(cpu);
  }
  void set_clock_source(ClockSource* source) { clock_source_ = source; }

  VirtualClock& clock() { return clock_; }
  std::uint64_t now_ns() const;
  std::uint64_t next_deadline_ns() const;
  // Lets the devices do what is due by now and brings the CPU's interrupt pin up to date.
  void settle();
  bool interrupt_line() const { return interrupt_line_; }
  GuestEnd power_request() const { return power_request_; }
  std::size_t console_input(std::span<const std::byte> bytes);
  void press_power_button();
  const PciDevices& pci() const { return pci_; }
  void set_network_sink(NetworkSink* sink) { pci_.set_network_sink(sink); }
  bool network_input(std::span<const std::byte> frame);
  void entropy_input(std::span<const std::byte> bytes);
  std::uint64_t console_bytes() const { return serial_.output_bytes(); }
  std::vector<Machine::DeviceState> device_states() const;
  // What device_states() gave, of the same devices in the same order. After an error no device is
  // in a defined state.
  std::expected<void, std::string> load_devices(std::span<const DeviceState> states);

  // Bus
  std::uint64_t pio_read(std::uint16_t port, unsigned size) override;
  void pio_write(std::uint16_t port, unsigned size, std::uint64_t value) override;
  std::uint64_t mmio_read(std::uint64_t gpa, unsigned size) override;
  void mmio_write(std::uint64_t gpa, unsigned size, std::uint64_t value) override;
  std::uint64_t time_stamp(std::uint64_t steps) override { return clock_.ns_at(steps); }
  bool time_sync_due(std::uint64_t steps) override;
  bool reschedule_requested() override;
  std::uint8_t acknowledge_interrupt() override;
  bool msr_read(std::uint32_t index, std::uint64_t& value) override;
  bool msr_write(std::uint32_t index, std::uint64_t value) override;
  CpuidResult cpuid(std::uint32_t leaf, std::uint32_t subleaf) override;

 private:
  struct MmioTarget {
    MmioDevice* device;
    std::uint64_t offset;
  };
  MmioTarget mmio_target(std::uint64_t gpa, unsigned size);
  std::vector<Device*> devices();
  void add_ports();
  void after_access();
  void update_interrupt_line();

  // What the devices call.
  void set_irq(unsigned irq, bool asserted) override;
  void power_off() override { power_request_ = GuestEnd::poweroff; }
  void reset() override { power_request_ = GuestEnd::reboot; }
  void serial_output(std::byte value) override;

  ConsoleSink& console_;
  VirtualClock clock_;
  Cpu* cpu_ = nullptr;
  ClockSource* clock_source_ = nullptr;
  Pic pic_;
  Pit pit_;
  Rtc rtc_;
  Lapic lapic_;
  Ioapic ioapic_;
  Serial serial_;
  AcpiPm acpi_pm_;
  Reset reset_;
  PciHost pci_host_;
  PciDevices pci_;
  PortBus ports_;
  bool interrupt_line_ = false;
  bool reschedule_ = false;
  std::uint64_t scheduled_deadline_ns_ = no_deadline;  // what the CPU's current run stops for
  GuestEnd power_request_ = GuestEnd::none;
};

}  // namespace node_mesh
