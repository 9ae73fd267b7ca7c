// The deterministic PC: CPU, RAM, devices and virtual time. Its future is a function of its state
// and of the calls below made at given positions; it never looks at the host. The recorder and the
// replayer drive it, and are the only ones who do.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cpu/cpu_snapshot.h"
#include "disk/layered_disk.h"
#include "kvm/user_engine.h"
#include "machine/guest_memory.h"
#include "machine/machine_config.h"
#include "machine/machine_state.h"
#include "machine/position.h"

namespace node_mesh {

class Cpu;
struct Preemption;

// In the order of MachineConfig::disks, of the sizes given there.
using MachineDisks = std::vector<std::unique_ptr<LayeredDisk>>;

enum class MachineExit : std::uint8_t {
  limit,           // the position limit was reached
  idle,            // the guest is halted: only an event can wake it (see next_deadline_ns)
  time_read,       // the recorder may set the clock now (only when a ClockSource was given)
  kicked,          // request_stop()
  preempted,       // user code was stopped by force (while recording): see take_preemption()
  ended,           // the guest ended: see end()
  host_failed,     // the host cannot serve the machine any more: see host_failure()
  entropy_wanted,  // the guest began to wait for entropy (while recording): see entropy_wanted()
  network_ready,   // the guest has room for a frame again (after stop_when_network_ready())
};

// Virtual time is `base_ns` at `base_steps` and grows by `ns_per_step` (32.32 fixed point) a step.
struct ClockSetting {
  std::uint64_t ns = 0;
  std::uint64_t ns_per_step = 0;
};

// Asked by the machine while recording, never while replaying.
class ClockSource {
 public:
  virtual ~ClockSource() = default;
  // Does virtual time `guest_ns` differ so much from real time that the clock should be set first?
  virtual bool sync_due(std::uint64_t guest_ns) = 0;
};

// Bytes that the guest wrote to its console, in order; `offset` counts all bytes since power on.
class ConsoleSink {
 public:
  virtual ~ConsoleSink() = default;
  virtual void console_output(std::uint64_t offset, std::span<const std::byte> bytes) = 0;
};

class Machine {
 public:
  // Builds the PC and loads the kernel. Errors are one clear line for the user.
  static std::expected<std::unique_ptr<Machine>, std::string> create(
      const MachineConfig& config, std::span<const std::byte> kernel,
      std::span<const std::byte> initrd, ConsoleSink& console, MachineDisks disks = {});
  // A machine as it was saved. `memory` holds what the guest's held then, its dirty pages are those
  // that count as changed since the last digest. The error says what does not fit.
  static std::expected<std::unique_ptr<Machine>, std::string> restore(const MachineConfig& config,
                                                                      const MachineState& state,
                                                                      GuestMemory memory,
                                                                      ConsoleSink& console,
                                                                      MachineDisks disks = {});
  ~Machine();

  // Lets an engine run user mode from here on. The error says why it cannot; the machine is then as
  // before.
  std::expected<void, std::string> use_engine(const UserEngineFactory& make);
  const UserEngine* engine() const;

  // Runs until `limit` or an exit. `clock` is null when replaying.
  MachineExit run(Position limit, ClockSource* clock);

  Position position() const;
  std::uint64_t guest_ns() const;
  // The virtual time at which a device next wants to act; UINT64_MAX if none.
  std::uint64_t next_deadline_ns() const;
  GuestEnd end() const;
  std::string report() const;  // for triple_fault and unsupported
  // Why the host failed this copy (a disk image cut off, no space): nothing that other copies
  // would see, so it is no event. The machine is then in no defined state and is to be dropped.
  const std::string& host_failure() const;
  // Async-signal-safe. A tick may wait while user code runs directly, a kick may not.
  void request_stop();
  void request_tick();

  // Events. Each takes effect at the current position, before the next instruction.
  void set_clock(ClockSetting setting);  // ns must not be before guest_ns()
  // Returns how many of the bytes, from the first, the bounded queue before the UART had room for;
  // the rest is dropped. Deterministic, so a replay drops the same bytes.
  std::size_t console_input(std::span<const std::byte> bytes);
  void press_power_button();
  // How many bytes of entropy the guest waits for; 0: for none.
  std::uint32_t entropy_wanted() const;
  void entropy_input(std::span<const std::byte> bytes);
  // An Ethernet frame for the guest. False: it had no room and the frame is lost.
  bool network_input(std::span<const std::byte> frame);
  // At the position where run() ended by MachineExit::preempted: what user code did from there on,
  // which no copy can count. It leads one step on; so does applying it, at the same position.
  // False: it does not fit this machine there.
  std::unique_ptr<Preemption> take_preemption();
  bool apply_preemption(const Preemption& preemption);
  void end_now(GuestEnd reason);

  // The network card, if there is one. Frames that the guest sends go to the sink, if one is set,
  // while run() or an event runs.
  void set_network_sink(NetworkSink* sink);
  std::uint64_t frames_sent() const;
  bool network_up() const;         // the guest has a driver for it
  bool network_ready() const;      // and room for a frame of any size
  void stop_when_network_ready();  // ends run() once, when it is

  // State, for digests and checkpoints.
  GuestMemory& memory();
  CpuSnapshot cpu_snapshot() const;
  void after_dirty_pages_taken();  // the CPU forgets its writable pages
  using DeviceState = node_mesh::DeviceState;
  std::vector<DeviceState> device_states() const;
  MachineState save_state() const;  // all but memory
  std::uint64_t console_bytes() const;
  const MachineDisks& disks() const;  // for seals, between two runs

 private:
  class Impl;
  explicit Machine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace node_mesh
