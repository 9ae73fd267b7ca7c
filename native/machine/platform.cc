#include "machine/platform.h"

#include <algorithm>
#include <utility>

#include "machine/check.h"
#include "machine/cpu_model.h"

namespace node_mesh {

Platform::Platform(const MachineConfig& config, GuestMemory& memory, const MachineDisks& disks,
                   ConsoleSink& console)
    : console_(console),
      clock_(config.initial_ns_per_step),
      pit_(*this),
      rtc_(*this, config.start_realtime_ns),
      ioapic_(lapic_),
      serial_(*this, *this),
      acpi_pm_(*this, *this),
      reset_(*this),
      pci_(config, memory, disks, lapic_, ioapic_, pci_host_) {
  lapic_.set_end_of_interrupt_sink(&ioapic_);
  add_ports();
}

void Platform::add_ports() {
  using enum PortBus::Width;
  ports_.add(pic_, Pic::master_port, 2, byte_registers);
  ports_.add(pic_, Pic::slave_port, 2, byte_registers);
  ports_.add(pic_, Pic::elcr_port, 2, byte_registers);
  ports_.add(pit_, Pit::base_port, 4, byte_registers);
  ports_.add(pit_, Pit::control_port, 1, byte_registers);
  ports_.add(rtc_, Rtc::base_port, 2, byte_registers);
  ports_.add(serial_, Serial::base_port, 8, byte_registers);
  ports_.add(acpi_pm_, AcpiPm::base_port, AcpiPm::port_count, any);
  ports_.add(reset_, Reset::keyboard_port, 1, byte_registers);
  // The reset register lies inside the four ports of the PCI address register, which answers only
  // as a doubleword.
  ports_.add(pci_host_, PciHost::address_port, 1, any);
  ports_.add(reset_, Reset::reset_port, 1, byte_registers);
  ports_.add(pci_host_, PciHost::data_port, 4, any);
}

std::vector<Device*> Platform::devices() {
  std::vector<Device*> all = {&pic_,    &pit_,     &rtc_,   &lapic_,   &ioapic_,
                              &serial_, &acpi_pm_, &reset_, &pci_host_};
  for (const auto& transport : pci_.transports())
    all.push_back(transport.get());
  return all;
}

std::uint64_t Platform::now_ns() const { return clock_.ns_at(cpu_->position().steps); }

std::uint64_t Platform::next_deadline_ns() const {
  return std::min({pit_.deadline_ns(), rtc_.deadline_ns(), lapic_.deadline_ns(),
                   serial_.deadline_ns(), pci_.deadline_ns()});
}

void Platform::settle() {
  lapic_.set_tsc_offset(cpu_->tsc_offset());
  const std::uint64_t now = now_ns();
  if (next_deadline_ns() <= now) {
    pit_.advance(now);
    rtc_.advance(now);
    lapic_.advance(now);
    serial_.advance(now);
    pci_.advance(now);
    // A device that stays due would keep the machine from ever running the guest.
    NM_CHECK(next_deadline_ns() > now);
  }
  scheduled_deadline_ns_ = next_deadline_ns();
  update_interrupt_line();
}

void Platform::update_interrupt_line() {
  const bool external = pic_.interrupt_pending();
  lapic_.set_lint0(external);
  interrupt_line_ = lapic_.interrupt_pending() || (external && lapic_.passes_external_interrupts());
  cpu_->set_interrupt_line(interrupt_line_);
}

void Platform::after_access() {
  update_interrupt_line();
  if (power_request_ != GuestEnd::none || next_deadline_ns() != scheduled_deadline_ns_) {
    reschedule_ = true;
  }
}

bool Platform::reschedule_requested() { return std::exchange(reschedule_, false); }

void Platform::set_irq(unsigned irq, bool asserted) {
  pic_.set_irq(irq, asserted);
  ioapic_.set_isa_irq(irq, asserted);
}

void Platform::serial_output(std::byte value) {
  console_.console_output(serial_.output_bytes() - 1, std::span(&value, 1));
}

std::size_t Platform::console_input(std::span<const std::byte> bytes) {
  const std::size_t taken = serial_.input(bytes, now_ns());
  settle();
  return taken;
}

void Platform::press_power_button() {
  acpi_pm_.press_power_button();
  settle();
}

bool Platform::network_input(std::span<const std::byte> frame) {
  VirtioNet* network = pci_.network();
  const bool taken = network != nullptr && network->input(frame);
  settle();
  return taken;
}

void Platform::entropy_input(std::span<const std::byte> bytes) {
  if (VirtioRng* rng = pci_.rng()) rng->input(bytes);
  settle();
}

std::vector<Machine::DeviceState> Platform::device_states() const {
  std::vector<Machine::DeviceState> states;
  // Listing them changes nothing; one list serves saving and loading.
  for (const Device* device : const_cast<Platform*>(this)->devices()) {
    StateWriter out;
    device->save(out);
    states.push_back({std::string(device->name()), out.take()});
  }
  StateWriter clock;
  clock.u64(clock_.base_ns());
  clock.u64(clock_.base_steps());
  clock.u64(clock_.ns_per_step());
  states.push_back({"clock", clock.take()});
  return states;
}

std::expected<void, std::string> Platform::load_devices(std::span<const DeviceState> states) {
  const std::vector<Device*> known = devices();
  if (states.size() != known.size() + 1) {
    return std::unexpected("it has other devices than this program's machine");
  }
  for (std::size_t i = 0; i < known.size(); ++i) {
    StateReader in(states[i].bytes);
    if (states[i].name != known[i]->name() || !known[i]->load(in) || !in.at_end()) {
      return std::unexpected("the state of device \"" + states[i].name +
                             "\" is not one of this program's machine");
    }
  }
  StateReader in(states.back().bytes);
  const std::uint64_t ns = in.u64();
  const std::uint64_t steps = in.u64();
  const std::uint64_t ns_per_step = in.u64();
  if (states.back().name != "clock" || !in.ok() || !in.at_end() || steps > cpu_->position().steps) {
    return std::unexpected("the state of its clock is malformed");
  }
  clock_.load({ns, ns_per_step}, steps);
  return {};
}

// ---- Bus

std::uint64_t Platform::pio_read(std::uint16_t port, unsigned size) {
  const std::uint32_t value = ports_.read(port, size, now_ns());
  after_access();
  return value;
}

void Platform::pio_write(std::uint16_t port, unsigned size, std::uint64_t value) {
  const std::uint64_t kept = value & (UINT64_MAX >> (64 - 8 * size));
  ports_.write(port, size, static_cast<std::uint32_t>(kept), now_ns());
  after_access();
}

Platform::MmioTarget Platform::mmio_target(std::uint64_t gpa, unsigned size) {
  if (lapic_.globally_enabled() && gpa >= lapic_.base() &&
      gpa - lapic_.base() <= Lapic::window_bytes - size) {
    return {&lapic_, gpa - lapic_.base()};
  }
  if (gpa >= Ioapic::base && gpa - Ioapic::base <= Ioapic::window_bytes - size) {
    return {&ioapic_, gpa - Ioapic::base};
  }
  const PciHost::Target target = pci_host_.memory_target(gpa, size);
  return {target.function, target.offset};
}

std::uint64_t Platform::mmio_read(std::uint64_t gpa, unsigned size) {
  const MmioTarget target = mmio_target(gpa, size);
  if (target.device == nullptr) return UINT64_MAX >> (64 - 8 * size);
  const std::uint64_t value = target.device->read(target.offset, size, now_ns());
  after_access();
  return value;
}

void Platform::mmio_write(std::uint64_t gpa, unsigned size, std::uint64_t value) {
  const MmioTarget target = mmio_target(gpa, size);
  if (target.device == nullptr) return;
  target.device->write(target.offset, size, value, now_ns());
  after_access();
}

bool Platform::time_sync_due(std::uint64_t steps) {
  return clock_source_ != nullptr && clock_source_->sync_due(clock_.ns_at(steps));
}

std::uint8_t Platform::acknowledge_interrupt() {
  const bool from_lapic = lapic_.interrupt_pending() || !lapic_.passes_external_interrupts();
  const std::uint8_t vector = from_lapic ? lapic_.acknowledge() : pic_.acknowledge();
  update_interrupt_line();
  return vector;
}

bool Platform::msr_read(std::uint32_t index, std::uint64_t& value) {
  return lapic_.msr_read(index, value);
}

bool Platform::msr_write(std::uint32_t index, std::uint64_t value) {
  lapic_.set_tsc_offset(cpu_->tsc_offset());
  const bool taken = lapic_.msr_write(index, value, now_ns());
  after_access();
  return taken;
}

Bus::CpuidResult Platform::cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  return mesh_v1_cpuid(leaf, subleaf, lapic_.globally_enabled());
}

}  // namespace node_mesh
