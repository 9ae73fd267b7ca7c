#include "machine/machine.h"

#include <algorithm>

#include "cpu/cpu.h"
#include "machine/format_text.h"
#include "machine/loader/boot_setup.h"
#include "machine/platform.h"

namespace node_mesh {

class Machine::Impl {
 public:
  Impl(const MachineConfig& config, GuestMemory memory, ConsoleSink& console)
      : memory_(std::move(memory)), platform_(config, console), cpu_(memory_, platform_) {
    platform_.attach_cpu(cpu_);
  }

  MachineExit run(Position limit, ClockSource* clock);
  void settle() {
    platform_.settle();
    if (end_ == GuestEnd::none) end_ = platform_.power_request();
  }
  bool sleeping();
  bool take_cpu_exit(RunExit exit, MachineExit& machine_exit);

  GuestMemory memory_;
  Platform platform_;
  Cpu cpu_;
  GuestEnd end_ = GuestEnd::none;
  std::string report_;
};

// True when the guest is halted and no interrupt is there to wake it. Halted with interrupts off it
// never wakes, since the machine has no NMI: that is how Linux stops when it cannot switch off.
bool Machine::Impl::sleeping() {
  if (!cpu_.halted()) return false;
  constexpr std::uint64_t interrupts_enabled = 1u << 9;
  if ((cpu_.snapshot().rflags & interrupts_enabled) == 0) {
    end_ = GuestEnd::halted_forever;
    return true;
  }
  return !platform_.interrupt_line();
}

// Whether the machine's run is over with this exit of the CPU.
bool Machine::Impl::take_cpu_exit(RunExit exit, MachineExit& machine_exit) {
  switch (exit) {
    case RunExit::limit:
    case RunExit::halted:
    case RunExit::rescheduled:
      return false;
    case RunExit::time_read:
      machine_exit = MachineExit::time_read;
      return true;
    case RunExit::kicked:
      machine_exit = MachineExit::kicked;
      return true;
    case RunExit::triple_fault:
      end_ = GuestEnd::triple_fault;
      report_ = cpu_.report();
      return false;
    case RunExit::unsupported:
      end_ = GuestEnd::unsupported;
      report_ = cpu_.report();
      return false;
  }
  return false;
}

MachineExit Machine::Impl::run(Position limit, ClockSource* clock) {
  platform_.set_clock_source(clock);
  // Whatever ends a run, devices have done what is due at that position before anybody looks: so
  // their state is a function of the position, not of where runs were cut.
  settle();
  for (;;) {
    if (end_ != GuestEnd::none) return MachineExit::ended;
    if (cpu_.position() >= limit) return MachineExit::limit;
    if (sleeping()) {
      return end_ != GuestEnd::none ? MachineExit::ended : MachineExit::idle;
    }
    const std::uint64_t deadline_step =
        platform_.clock().first_step_at(platform_.next_deadline_ns());
    MachineExit machine_exit = MachineExit::limit;
    const bool over =
        take_cpu_exit(cpu_.run(std::min(limit, Position{deadline_step, 0})), machine_exit);
    settle();
    if (over && end_ == GuestEnd::none) return machine_exit;
  }
}

std::expected<std::unique_ptr<Machine>, std::string> Machine::create(
    const MachineConfig& config, std::span<const std::byte> kernel,
    std::span<const std::byte> initrd, ConsoleSink& console) {
  if (auto checked = check_machine_config(config); !checked) {
    return std::unexpected(checked.error());
  }
  auto memory = GuestMemory::create(config.memory_bytes);
  if (!memory) return std::unexpected(memory.error());
  auto entry = set_up_boot(config, kernel, initrd, *memory);
  if (!entry) return std::unexpected(entry.error());
  auto impl = std::make_unique<Impl>(config, std::move(*memory), console);
  impl->cpu_.restore(*entry);
  impl->settle();
  return std::unique_ptr<Machine>(new Machine(std::move(impl)));
}

std::expected<std::unique_ptr<Machine>, std::string> Machine::restore(const MachineConfig& config,
                                                                      const MachineState& state,
                                                                      GuestMemory memory,
                                                                      ConsoleSink& console) {
  if (auto checked = check_machine_config(config); !checked) {
    return std::unexpected(checked.error());
  }
  auto impl = std::make_unique<Impl>(config, std::move(memory), console);
  impl->cpu_.restore(state.cpu);
  if (auto loaded = impl->platform_.load_devices(state.devices); !loaded) {
    return std::unexpected(loaded.error());
  }
  impl->end_ = state.end;
  impl->report_ = state.report;
  impl->settle();
  return std::unique_ptr<Machine>(new Machine(std::move(impl)));
}

MachineState Machine::save_state() const {
  return {cpu_snapshot(), device_states(), impl_->end_, impl_->report_};
}

Machine::Machine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Machine::~Machine() = default;

MachineExit Machine::run(Position limit, ClockSource* clock) { return impl_->run(limit, clock); }
Position Machine::position() const { return impl_->cpu_.position(); }
std::uint64_t Machine::guest_ns() const { return impl_->platform_.now_ns(); }
std::uint64_t Machine::next_deadline_ns() const { return impl_->platform_.next_deadline_ns(); }
GuestEnd Machine::end() const { return impl_->end_; }
std::string Machine::report() const { return impl_->report_; }
void Machine::request_stop() { impl_->cpu_.request_stop(); }

void Machine::set_clock(ClockSetting setting) {
  impl_->platform_.clock().set(setting, impl_->cpu_.position().steps);
  impl_->settle();
}

std::size_t Machine::console_input(std::span<const std::byte> bytes) {
  return impl_->platform_.console_input(bytes);
}

void Machine::end_now(GuestEnd reason) {
  if (impl_->end_ == GuestEnd::none) impl_->end_ = reason;
}

GuestMemory& Machine::memory() { return impl_->memory_; }
CpuSnapshot Machine::cpu_snapshot() const { return impl_->cpu_.snapshot(); }
void Machine::after_dirty_pages_taken() { impl_->cpu_.forget_writable_pages(); }

std::vector<Machine::DeviceState> Machine::device_states() const {
  return impl_->platform_.device_states();
}

std::uint64_t Machine::console_bytes() const { return impl_->platform_.console_bytes(); }

}  // namespace node_mesh
