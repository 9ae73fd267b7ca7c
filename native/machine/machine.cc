#include "machine/machine.h"

#include <algorithm>
#include <utility>

#include "cpu/cpu.h"
#include "disk/layered_disk.h"
#include "kvm/user_engine.h"
#include "machine/check.h"
#include "machine/format_text.h"
#include "machine/loader/boot_setup.h"
#include "machine/platform.h"

namespace node_mesh {

class Machine::Impl {
 public:
  Impl(const MachineConfig& config, GuestMemory memory, MachineDisks disks, ConsoleSink& console)
      : memory_(std::move(memory)),
        disks_(std::move(disks)),
        platform_(config, memory_, disks_, console),
        cpu_(memory_, platform_) {
    platform_.attach_cpu(cpu_);
  }

  MachineExit run(Position limit, ClockSource* clock);
  void settle() {
    platform_.settle();
    if (end_ == GuestEnd::none) end_ = platform_.power_request();
  }
  bool sleeping();
  // Whether the machine's driver wants to be told of something now; not when replaying.
  bool wants_driver(MachineExit& exit);
  bool take_cpu_exit(RunExit exit, MachineExit& machine_exit);
  const std::string& host_failure() const {
    const std::string& disks = platform_.pci().host_failure();
    return disks.empty() ? cpu_.engine_failure() : disks;
  }

  GuestMemory memory_;
  MachineDisks disks_;
  Platform platform_;
  Cpu cpu_;
  GuestEnd end_ = GuestEnd::none;
  std::string report_;
  // No state of the machine: what its driver asked for and was told.
  bool entropy_told_ = false;
  bool stop_when_network_ready_ = false;
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

bool Machine::Impl::wants_driver(MachineExit& exit) {
  const VirtioRng* rng = platform_.pci().rng();
  if (rng == nullptr || rng->wanted_bytes() == 0) entropy_told_ = false;
  if (rng != nullptr && rng->wanted_bytes() != 0 && !std::exchange(entropy_told_, true)) {
    exit = MachineExit::entropy_wanted;
    return true;
  }
  const VirtioNet* network = platform_.pci().network();
  if (stop_when_network_ready_ && network != nullptr && network->receive_ready()) {
    stop_when_network_ready_ = false;
    exit = MachineExit::network_ready;
    return true;
  }
  return false;
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
    case RunExit::preempted:
      machine_exit = MachineExit::preempted;
      return true;
    case RunExit::triple_fault:
      end_ = GuestEnd::triple_fault;
      report_ = cpu_.report();
      return false;
    case RunExit::engine_failed:
      machine_exit = MachineExit::host_failed;
      return true;
    case RunExit::unsupported:
      end_ = GuestEnd::unsupported;
      report_ = cpu_.report();
      return false;
  }
  return false;
}

MachineExit Machine::Impl::run(Position limit, ClockSource* clock) {
  platform_.set_clock_source(clock);
  cpu_.set_preemptible(clock != nullptr);
  // Whatever ends a run, devices have done what is due at that position before anybody looks: so
  // their state is a function of the position, not of where runs were cut.
  settle();
  for (;;) {
    if (!host_failure().empty()) return MachineExit::host_failed;
    if (end_ != GuestEnd::none) return MachineExit::ended;
    if (cpu_.position() >= limit) return MachineExit::limit;
    MachineExit machine_exit = MachineExit::limit;
    if (clock != nullptr && wants_driver(machine_exit)) return machine_exit;
    if (sleeping()) {
      return end_ != GuestEnd::none ? MachineExit::ended : MachineExit::idle;
    }
    const std::uint64_t deadline_step =
        platform_.clock().first_step_at(platform_.next_deadline_ns());
    const bool over =
        take_cpu_exit(cpu_.run(std::min(limit, Position{deadline_step, 0})), machine_exit);
    settle();
    if (over && end_ == GuestEnd::none) return machine_exit;
  }
}

namespace {

// Whoever opens disks does so for this very configuration.
void check_disks(const MachineConfig& config, const MachineDisks& disks) {
  NM_CHECK(disks.size() == config.disks.size());
  for (std::size_t i = 0; i < disks.size(); ++i)
    NM_CHECK(disks[i] != nullptr && disks[i]->size_bytes() == config.disks[i].size_bytes);
}

}  // namespace

std::expected<std::unique_ptr<Machine>, std::string> Machine::create(
    const MachineConfig& config, std::span<const std::byte> kernel,
    std::span<const std::byte> initrd, ConsoleSink& console, MachineDisks disks) {
  if (auto checked = check_machine_config(config); !checked) {
    return std::unexpected(checked.error());
  }
  check_disks(config, disks);
  auto memory = GuestMemory::create(config.memory_bytes);
  if (!memory) return std::unexpected(memory.error());
  auto entry = set_up_boot(config, kernel, initrd, *memory);
  if (!entry) return std::unexpected(entry.error());
  auto impl = std::make_unique<Impl>(config, std::move(*memory), std::move(disks), console);
  impl->cpu_.restore(*entry);
  impl->settle();
  return std::unique_ptr<Machine>(new Machine(std::move(impl)));
}

std::expected<std::unique_ptr<Machine>, std::string> Machine::restore(const MachineConfig& config,
                                                                      const MachineState& state,
                                                                      GuestMemory memory,
                                                                      ConsoleSink& console,
                                                                      MachineDisks disks) {
  if (auto checked = check_machine_config(config); !checked) {
    return std::unexpected(checked.error());
  }
  check_disks(config, disks);
  auto impl = std::make_unique<Impl>(config, std::move(memory), std::move(disks), console);
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
void Machine::request_stop() { impl_->cpu_.request_stop(StopUrgency::now); }
void Machine::request_tick() { impl_->cpu_.request_stop(StopUrgency::tick); }

void Machine::set_clock(ClockSetting setting) {
  impl_->platform_.clock().set(setting, impl_->cpu_.position().steps);
  impl_->settle();
}

std::size_t Machine::console_input(std::span<const std::byte> bytes) {
  return impl_->platform_.console_input(bytes);
}

std::unique_ptr<Preemption> Machine::take_preemption() { return impl_->cpu_.take_preemption(); }

bool Machine::apply_preemption(const Preemption& preemption) {
  return impl_->cpu_.apply_preemption(preemption);
}

void Machine::end_now(GuestEnd reason) {
  if (impl_->end_ == GuestEnd::none) impl_->end_ = reason;
}

void Machine::press_power_button() { impl_->platform_.press_power_button(); }

std::uint32_t Machine::entropy_wanted() const {
  const VirtioRng* rng = impl_->platform_.pci().rng();
  return rng == nullptr ? 0 : rng->wanted_bytes();
}

void Machine::entropy_input(std::span<const std::byte> bytes) {
  impl_->platform_.entropy_input(bytes);
  impl_->entropy_told_ = false;  // the next request may wait already
}

bool Machine::network_input(std::span<const std::byte> frame) {
  return impl_->platform_.network_input(frame);
}

void Machine::set_network_sink(NetworkSink* sink) { impl_->platform_.set_network_sink(sink); }

std::uint64_t Machine::frames_sent() const {
  const VirtioNet* network = impl_->platform_.pci().network();
  return network == nullptr ? 0 : network->frames_sent();
}

bool Machine::network_up() const {
  const VirtioNet* network = impl_->platform_.pci().network();
  return network != nullptr && network->is_up();
}

bool Machine::network_ready() const {
  const VirtioNet* network = impl_->platform_.pci().network();
  return network != nullptr && network->receive_ready();
}

void Machine::stop_when_network_ready() { impl_->stop_when_network_ready_ = true; }

GuestMemory& Machine::memory() { return impl_->memory_; }
CpuSnapshot Machine::cpu_snapshot() const { return impl_->cpu_.snapshot(); }
void Machine::after_dirty_pages_taken() { impl_->cpu_.forget_writable_pages(); }

std::vector<Machine::DeviceState> Machine::device_states() const {
  return impl_->platform_.device_states();
}

const MachineDisks& Machine::disks() const { return impl_->disks_; }
const std::string& Machine::host_failure() const { return impl_->host_failure(); }

std::expected<void, std::string> Machine::use_engine(const UserEngineFactory& make) {
  auto engine = make(impl_->memory_);
  if (!engine) return std::unexpected(engine.error());
  impl_->cpu_.use_engine(std::move(*engine));
  impl_->memory_.set_dirty_source([cpu = &impl_->cpu_] { cpu->collect_dirty_pages(); });
  return {};
}
const UserEngine* Machine::engine() const { return impl_->cpu_.engine(); }

std::uint64_t Machine::console_bytes() const { return impl_->platform_.console_bytes(); }

}  // namespace node_mesh
