// How the CPU hands a stretch of user mode to somebody who runs it directly, and what comes back.
// The run loop (cpu/run_loop.cc) owns the stretch: it decides when to hand over, counts positions
// and delivers every event. An engine only carries the registers and the memory forward; whatever
// it does must be what the software CPU would have done, so that nothing in a log depends on it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cpu/cpu_snapshot.h"
#include "machine/guest_memory.h"

namespace node_mesh {

struct Core;

// What user mode can change, apart from memory: the state at a forced stop.
struct UserState {
  std::array<std::uint64_t, 16> gpr{};
  std::uint64_t rip = 0;
  std::uint64_t rflags = 2;
  std::array<SegmentSnapshot, 6> segments{};  // ES CS SS DS FS GS
  FpuState fpu;
  friend bool operator==(const UserState&, const UserState&) = default;
};

// A forced stop of user code that did not trap. The stretch that began at (S, 0) was counted by the
// software CPU up to the position (S, U) at which this is recorded; from there on only its result
// is known. Applying it leads to (S + 1, 0), still in user mode. `pages` holds whatever that part
// of the stretch changed (page tables whose accessed or dirty bits it set included), whole, by
// rising gfn.
struct Preemption {
  struct Page {
    std::uint64_t gfn = 0;
    std::array<std::byte, page_bytes> bytes{};
    friend bool operator==(const Page&, const Page&) = default;
  };
  UserState state;
  std::vector<Page> pages;
};

class UserEngine {
 public:
  virtual ~UserEngine() = default;

  enum class Stop : std::uint8_t {
    trap,    // the next instruction is for the software CPU: it traps, or must not run here
    kicked,  // request_stop() asked for it; the state is that in front of some instruction
    failed,  // the host's KVM refused; see failure(). The machine cannot go on
  };
  // Runs user code from the registers in `core` and leaves them as they are at the end; memory and
  // the guest's accessed and dirty bits are up to date. FPU registers may stay with the engine
  // until fetch_fpu(). Called only in 64-bit user mode with nothing pending, no single-stepping, no
  // alignment checks, no breakpoints.
  virtual Stop run(Core& core) = 0;
  virtual const std::string& failure() const = 0;

  // Brings the FPU registers back into `fpu` when the engine holds them.
  virtual void fetch_fpu(FpuState& fpu) = 0;

  // For other threads and signal handlers: makes a run() in progress, or the next one, end soon.
  virtual void request_stop() = 0;
  // Whether a stop that is not urgent should wait: the present stretch is younger than a slice.
  virtual bool defers_stop() const = 0;

  // Marks the pages that run() wrote since this was last called as dirty.
  virtual void collect_dirty_pages(GuestMemory& memory) = 0;
  // The same, and gives those that the present stretch may have written (others may be among them).
  virtual std::vector<std::uint64_t> take_stretch_pages(GuestMemory& memory) = 0;

  // Coherence. The CPU calls these before the change takes effect anywhere.
  // A translation of one page, all of one address space, or all of them, are not valid any longer.
  virtual void drop_page(int space, std::uint64_t va) = 0;
  virtual void drop_space(int space) = 0;
  virtual void drop_everything() = 0;
  // The page begins to hold decoded code or page tables: user mode may not write it directly.
  virtual void forbid_writes(std::uint64_t gfn) = 0;
  // A page that is executable here (Mmu marks it with page_runs_natively) is about to be written.
  virtual void forbid_execution(std::uint64_t gfn) = 0;

  // Policy: user instructions to run in software before the first hand-over of the stretch that
  // begins here, and after a hand-over that came back with Stop::trap.
  virtual std::uint64_t software_first(const Core& core) = 0;
  virtual std::uint64_t software_after_trap() = 0;
  // A stretch that run() had a part in is over: it trapped, or was stopped by force, which put
  // `pages` pages into the log.
  virtual void stretch_ended() = 0;
  virtual void stretch_stopped(std::size_t pages) = 0;

  struct Counters {
    std::uint64_t stretches = 0;        // of which at least a part ran here
    std::uint64_t entries = 0;          // of the vCPU
    std::uint64_t faults = 0;           // of them, ended by a page fault that was resolved here
    std::uint64_t traps = 0;            // ended in front of an instruction for the software CPU: by
    std::uint64_t syscalls = 0;         // SYSCALL,
    std::uint64_t guest_faults = 0;     // a page fault that the guest has to see,
    std::uint64_t blocked_fetches = 0;  // code that must not run directly
    std::uint64_t kicks = 0;
    std::uint64_t scanned_pages = 0, blocked_pages = 0;
    std::uint64_t table_resets = 0;
  };
  virtual Counters counters() const = 0;
};

// Makes the engine of a machine for its memory; empty: the software CPU runs everything.
using UserEngineFactory =
    std::function<std::expected<std::unique_ptr<UserEngine>, std::string>(GuestMemory&)>;

}  // namespace node_mesh
