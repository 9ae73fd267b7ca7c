// The software x86-64 CPU: one vCPU that runs kernel and user mode one counted instruction at a
// time over cached decoded blocks. It owns the architectural registers, the translation caches and
// the block cache. It never reads the host's clock, never does I/O itself and never throws at the
// guest's wish: whatever the guest does ends in an architectural effect or in a `RunExit`.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "cpu/bus.h"
#include "cpu/cpu_snapshot.h"
#include "machine/guest_memory.h"
#include "machine/position.h"

namespace node_mesh {

class UserEngine;
struct Preemption;

// Why `Cpu::run` came back. The state is always that of a clean instruction boundary.
enum class RunExit : std::uint8_t {
  limit,   // `position() == limit` (or the first boundary past it, for a trap out of user mode)
  halted,  // HLT retired and no interrupt can be delivered now
  rescheduled,   // a device asked for the deadlines to be computed anew (Bus::reschedule_requested)
  time_read,     // the next instruction reads time and Bus::time_sync_due() said yes
  kicked,        // request_stop() was called
  preempted,     // user code was stopped where nothing counts its instructions: take_preemption()
  triple_fault,  // shutdown state; the machine resets or ends
  unsupported,   // the monitor cannot go on; `report()` says why, with registers and code bytes
  engine_failed,  // the host refused to run user code directly: engine_failure() says why
};

// Whether somebody waits for the stop, or wants to look at the time now and then.
enum class StopUrgency : std::uint8_t { now, tick };

class Cpu {
 public:
  Cpu(GuestMemory& memory, Bus& bus);
  ~Cpu();
  Cpu(const Cpu&) = delete;
  Cpu& operator=(const Cpu&) = delete;

  // Runs until `limit` is reached exactly or something else ends the run. Interrupts are delivered
  // at the first boundary where the line is raised, RFLAGS.IF is set and no shadow holds.
  RunExit run(Position limit);

  Position position() const;
  bool in_user_mode() const;
  bool halted() const;
  std::uint64_t tsc_offset() const;  // what the guest added to virtual time (TSC, TSC_ADJUST)

  // The INTR pin. The vector is fetched with Bus::acknowledge_interrupt() when it is delivered.
  void set_interrupt_line(bool raised);

  // Async-signal-safe and callable from another thread: the run ends at the next boundary. An
  // engine that runs user code directly may let a mere tick wait until the stretch ends or is long
  // enough.
  void request_stop(StopUrgency urgency = StopUrgency::now);

  // Stretches of user mode may be run by `engine` from now on (null: by none).
  void use_engine(std::unique_ptr<UserEngine> engine);
  const UserEngine* engine() const;
  const std::string& engine_failure() const;
  // Brings GuestMemory's dirty pages up to date with what the engine wrote.
  void collect_dirty_pages();
  // Whether run() may end a stretch by force (RunExit::preempted) when asked to stop: only while
  // recording, since only a record of the result makes it repeatable.
  void set_preemptible(bool preemptible);
  // After RunExit::preempted, at whose position the forced stop is recorded: what became of the
  // stretch. The position is then one step on.
  std::unique_ptr<Preemption> take_preemption();
  // The same for a copy, at that position. False: it is not in user mode or lacks such pages.
  bool apply_preemption(const Preemption& preemption);

  // All architectural state, in one canonical form (what the digest hashes and checkpoints keep).
  CpuSnapshot snapshot() const;
  void restore(const CpuSnapshot& snapshot);

  // Forget write permissions cached for pages, so that the next store to each page marks it dirty
  // again in GuestMemory (called after the dirty set was taken).
  void forget_writable_pages();

  // Somebody other than this CPU (a device, a loader) wrote guest memory.
  void memory_written(std::uint64_t gpa, std::uint64_t size_bytes);

  // For RunExit::unsupported: one paragraph with position, registers, code bytes and reason.
  std::string report() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace node_mesh
