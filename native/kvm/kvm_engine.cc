#include "kvm/kvm_engine.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "cpu/stub/stub.h"
#include "kvm/host_time.h"
#include "kvm/user_mode_setup.h"
#include "machine/format_text.h"

namespace node_mesh {
namespace {

// Tables for the vCPU and the monitor's own pages, 8 MiB; at the cap KVM forgets all of them, and
// they are filled again.
constexpr u64 pool_pages = 2048;
constexpr std::uint32_t low_slot = 0, high_slot = 1, pool_slot = 2;

// A stretch that nobody is in a hurry to stop runs for so long: the longer the more a stop puts
// into the log, so that stops come to about this many nanoseconds for each byte.
constexpr u64 slice_ns_min = 10'000'000, slice_ns_max = 30'000'000;
constexpr u64 slice_ns_per_byte = 2'000;
// How old the dirty log may be when a stretch begins: what is in it goes into the log of a stop.
constexpr u64 harvest_interval_ns = 5'000'000;

// Flags of user mode that travel; what the vCPU needs besides them is fixed.
constexpr u64 carried_flags =
    rflags::status_bits | rflags::df | rflags::nt | rflags::ac | rflags::id | rflags::tf;
constexpr u64 entry_flags = rflags::fixed | rflags::interrupt;

u64 pool_gpa_for(const GuestMemory& memory) {
  constexpr u64 alignment = monitor_pages_gpa_alignment;
  return std::max(mmio_hole_end, (memory.size_bytes() + alignment - 1) & ~(alignment - 1));
}

std::vector<ShadowTables::FixedPage> monitor_pages(u64 gpa, bool user) {
  std::vector<ShadowTables::FixedPage> pages;
  for (unsigned n = 0; n < MonitorPage::page_count; ++n) {
    const bool stack = n == MonitorPage::exception_stack;
    const bool code = n == MonitorPage::exception_stubs || n == MonitorPage::syscall_stub;
    pages.push_back({gpa + n * page_bytes, user, stack, code});
  }
  return pages;
}

HazardSet trapped_hazards(const KvmTraits& traits) {
  HazardSet trapped;
  if (traits.traps_time_stamp) trapped.add(Hazard::time_stamp);
  return trapped;
}

}  // namespace

void KvmEngine::PoolDeleter::operator()(std::byte* pool) const {
  ::munmap(pool, pool_pages * page_bytes);
}

std::expected<std::unique_ptr<UserEngine>, std::string> KvmEngine::create(GuestMemory& memory,
                                                                          const KvmTraits& traits) {
  auto vm = KvmVm::create();
  if (!vm) return std::unexpected(vm.error());
  auto vcpu = Vcpu::create(*vm);
  if (!vcpu) return std::unexpected(vcpu.error());
  void* pool = ::mmap(nullptr, pool_pages * page_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pool == MAP_FAILED) return std::unexpected("no memory for page tables");
  std::unique_ptr<KvmEngine> engine(new KvmEngine(memory, traits, std::move(*vm), std::move(*vcpu),
                                                  static_cast<std::byte*>(pool)));
  if (auto done = engine->set_up(); !done) return std::unexpected(done.error());
  return engine;
}

KvmEngine::KvmEngine(GuestMemory& memory, const KvmTraits& traits, KvmVm vm, Vcpu vcpu,
                     std::byte* pool)
    : memory_(memory),
      traits_(traits),
      pool_(pool),
      vm_(std::move(vm)),
      vcpu_(std::move(vcpu)),
      pool_region_{pool_slot, pool_gpa_for(memory), pool_pages * page_bytes, pool, false},
      monitor_(pool, MonitorPage::random_base()),
      tables_({pool, pool_region_.gpa, pool_pages, MonitorPage::page_count}, memory.page_count(),
              monitor_.base(), monitor_pages(pool_region_.gpa, traits.syscall_stays_in_user)),
      policy_(traits.round_trip_ns),
      code_(trapped_hazards(traits)),
      slice_ns_(slice_ns_min) {}

KvmEngine::~KvmEngine() = default;

std::expected<void, std::string> KvmEngine::set_up() {
  const u64 low_bytes = std::min(memory_.size_bytes(), mmio_hole_start);
  ram_.push_back({low_slot, 0, low_bytes, memory_.base(), true});
  if (memory_.size_bytes() > mmio_hole_end) {
    ram_.push_back({high_slot, mmio_hole_end, memory_.size_bytes() - mmio_hole_end,
                    memory_.base() + mmio_hole_end, true});
  }
  for (const KvmVm::Region& region : ram_) {
    if (auto added = vm_.add_region(region); !added) return added;
  }
  if (auto added = vm_.add_region(pool_region_); !added) return added;
  base_ = user_mode_sregs(monitor_, traits_.traps_time_stamp);
  base_.cr3 = tables_.enter(0);
  return vcpu_.set_base(base_, monitor_.syscall_entry());
}

// ---- What the run loop calls

UserEngine::Stop KvmEngine::run(Core& core) {
  begin_stretch(core);
  const u64 start_ns = host_now_ns();
  // A request that came before this was not for us to see, but the run loop's flag shows it.
  running_.store(true, std::memory_order_seq_cst);
  Next next = load(core) ? Next::enter : Next::failed;
  if (core.stop_requested.load(std::memory_order_seq_cst)) next = Next::kicked;
  while (next == Next::enter)
    next = enter(core);
  running_.store(false, std::memory_order_seq_cst);
  const u64 ran_ns = host_now_ns() - start_ns;
  stretch_vcpu_ns_ += ran_ns;
  switch (next) {
    case Next::trap:
      ++counters_.traps;
      policy_.note_trap(ran_ns);
      return Stop::trap;
    case Next::kicked:
      ++counters_.kicks;
      return Stop::kicked;
    default:
      return Stop::failed;
  }
}

void KvmEngine::begin_stretch(Core& core) {
  mmu_ = core.mmu;
  space_ = static_cast<unsigned>(mmu_->current_space());
  if (in_stretch_) return;
  in_stretch_ = true;
  ++counters_.stretches;
  stretch_vcpu_ns_ = 0;
  const u64 now = host_now_ns();
  stretch_since_ns_.store(now, std::memory_order_relaxed);
  if (now - harvested_ns_ > harvest_interval_ns) harvest(memory_);
  stretch_pages_.clear();
}

void KvmEngine::stretch_ended() {
  stretch_since_ns_.store(0, std::memory_order_relaxed);
  if (!in_stretch_) return;
  in_stretch_ = false;
  policy_.note_stretch(stretch_vcpu_ns_);
}

void KvmEngine::stretch_stopped(std::size_t pages) {
  stretch_ended();
  policy_.note_forced_stop(last_rip_, last_rsp_);
  const u64 wanted_ns = pages * page_bytes * slice_ns_per_byte;
  slice_ns_.store(std::clamp(wanted_ns, slice_ns_min, slice_ns_max), std::memory_order_relaxed);
}

std::uint64_t KvmEngine::software_first(const Core& core) {
  return policy_.software_first(core.rip, core.gpr[rsp]);
}

void KvmEngine::request_stop() {
  if (!running_.load(std::memory_order_seq_cst)) return;
  stop_wanted_.store(true, std::memory_order_seq_cst);
  vcpu_.interrupt();
}

bool KvmEngine::defers_stop() const {
  const u64 since_ns = stretch_since_ns_.load(std::memory_order_relaxed);
  return since_ns != 0 && host_now_ns() - since_ns < slice_ns_.load(std::memory_order_relaxed);
}

void KvmEngine::fetch_fpu(FpuState& fpu) {
  if (!fpu_here_) return;
  fpu_here_ = false;
  if (auto stored = vcpu_.store_fpu(fpu); !stored) fail(stored.error());
}

void KvmEngine::harvest(GuestMemory& memory) {
  harvested_ns_ = host_now_ns();
  for (const KvmVm::Region& region : ram_) {
    auto taken = vm_.take_dirty_pages(region, [&](u64 gfn) {
      memory.mark_dirty(gfn);
      stretch_pages_.push_back(gfn);
    });
    if (!taken) fail(taken.error());
  }
}

void KvmEngine::collect_dirty_pages(GuestMemory& memory) { harvest(memory); }

std::vector<std::uint64_t> KvmEngine::take_stretch_pages(GuestMemory& memory) {
  harvest(memory);
  return std::exchange(stretch_pages_, {});
}

// ---- Coherence

void KvmEngine::drop_page(int space, std::uint64_t va) {
  if (space >= 0) tables_.unmap(static_cast<unsigned>(space), va);
}
void KvmEngine::drop_space(int space) {
  if (space >= 0) tables_.drop_space(static_cast<unsigned>(space));
}
void KvmEngine::drop_everything() {
  for (unsigned space = 0; space < ShadowTables::space_limit; ++space)
    tables_.drop_space(space);
}
void KvmEngine::forbid_writes(std::uint64_t gfn) { tables_.forbid_writes(gfn); }
void KvmEngine::forbid_execution(std::uint64_t gfn) {
  tables_.forbid_execution(gfn);
  code_.forget(gfn);
  note_flip(gfn);
  mmu_->unmark_scanned(gfn);
}

// ---- Entering and leaving

bool KvmEngine::load(Core& core) {
  if (auto ready = vcpu_.use_this_thread(); !ready) {
    fail(ready.error());
    return false;
  }
  if (!fpu_here_) {
    x87_flush(core.fpu);
    if (auto loaded = vcpu_.load_fpu(core.fpu); !loaded) {
      fail(loaded.error());
      return false;
    }
    fpu_here_ = true;
  }
  prefill(core);
  return true;
}

// What is certain to be used, without a fault of the vCPU for each: the code, the stack, and what
// the guest's kernel has just mapped after a page fault. Only what user code may use without a bit
// being set anywhere.
void KvmEngine::prefill(Core& core) {
  for (const u64 va : {core.rip, core.gpr[rsp], core.cr2}) {
    if ((va >> 47) != 0 || monitor_.covers(va)) continue;
    if (!tables_.is_mapped(space_, va, false, false)) map_beside(space_, va);
  }
}

KvmEngine::Next KvmEngine::enter(Core& core) {
  if (stop_wanted_.exchange(false)) return Next::kicked;
  if (tables_.is_used_up() && !renew_tables()) return Next::failed;
  kvm_regs& regs = vcpu_.regs();
  regs = {core.gpr[rax], core.gpr[rbx], core.gpr[rcx],
          core.gpr[rdx], core.gpr[rsi], core.gpr[rdi],
          core.gpr[rsp], core.gpr[rbp], core.gpr[8],
          core.gpr[9],   core.gpr[10],  core.gpr[11],
          core.gpr[12],  core.gpr[13],  core.gpr[14],
          core.gpr[15],  core.rip,      (core.read_rflags() & carried_flags) | entry_flags};
  kvm_sregs& sregs = vcpu_.sregs();
  sregs = base_;
  sregs.cr3 = tables_.enter(space_);
  const auto set = [&](kvm_segment& into, unsigned index) {
    into.selector = core.segments[index].selector;
    into.base = core.seg_base[index];
    into.unusable = into.selector < 4 ? 1 : 0;
    into.present = into.unusable ? 0 : 1;
  };
  set(sregs.ds, seg_ds);
  set(sregs.es, seg_es);
  set(sregs.fs, seg_fs);
  set(sregs.gs, seg_gs);
  for (;;) {
    ++counters_.entries;
    const Vcpu::Outcome outcome = vcpu_.run();
    switch (outcome.exit) {
      case Vcpu::Exit::port:
        return take_port_exit(core, outcome.port);
      case Vcpu::Exit::interrupted: {
        const Next next = take_interruption(core);
        if (next != Next::enter) return next;
        break;  // inside of the monitor's code, or with an exception on its way: on to its exit
      }
      case Vcpu::Exit::failed:
        return fail(format_text("KVM_RUN: %s", std::strerror(outcome.error)));
      case Vcpu::Exit::other:
        return take_other_exit(core, outcome.reason);
    }
  }
}

void KvmEngine::store_general(Core& core, const kvm_regs& regs) {
  const u64 values[] = {regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp,
                        regs.rsi, regs.rdi, regs.r8,  regs.r9,  regs.r10, regs.r11,
                        regs.r12, regs.r13, regs.r14, regs.r15};
  std::ranges::copy(values, core.gpr);
}

// Selectors and bases that user code may have changed by loading a segment register.
void KvmEngine::store_segments(Core& core) {
  const kvm_sregs& sregs = vcpu_.sregs();
  const auto take = [&](const kvm_segment& from, unsigned index) {
    if (from.selector == core.segments[index].selector && from.base == core.seg_base[index]) return;
    core.seg_base[index] = from.base;
    if (from.selector != core.segments[index].selector) {
      core.segments[index].selector = from.selector;
      const bool null = from.selector < 4;
      core.segments[index].attributes = null ? 0 : core.segments[seg_ss].attributes;
      core.segments[index].limit = null ? 0 : core.segments[seg_ss].limit;
    }
  };
  take(sregs.fs, seg_fs);
  take(sregs.gs, seg_gs);
}

KvmEngine::Next KvmEngine::leave(Core& core, u64 rip, u64 rsp_value, u64 flags) {
  kvm_regs regs = vcpu_.regs();
  regs.rsp = rsp_value;
  store_general(core, regs);
  store_segments(core);
  core.rip = rip;
  last_rip_ = rip;
  last_rsp_ = rsp_value;
  set_status(&core, flags);
  constexpr u64 taken = rflags::df | rflags::nt | rflags::ac | rflags::id | rflags::tf;
  core.sysflags = (core.sysflags & ~(taken | rflags::rf)) | (flags & taken);
  return Next::trap;
}

KvmEngine::Next KvmEngine::take_port_exit(Core& core, std::uint16_t port) {
  const kvm_regs& regs = vcpu_.regs();
  if (port == MonitorPage::exception_port) {
    if (const auto vector = monitor_.exception_at(regs.rip)) return take_exception(core, *vector);
  }
  constexpr u64 syscall_bytes = 2;
  if (port == MonitorPage::syscall_port && monitor_.in_syscall_stub(regs.rip)) {
    port_exit_passes_ = regs.rip != monitor_.syscall_entry();
    ++counters_.syscalls;
    return leave(core, regs.rcx - syscall_bytes, regs.rsp, regs.r11);
  }
  // User code's own OUT to the monitor's port: not ours. RIP is behind it where KVM passes it.
  u64 rip = regs.rip;
  if (port_exit_passes_) {
    const auto last = code_byte(rip - 1);
    rip -= last && (*last & 0xfe) == 0xee ? 1 : syscall_bytes;
  }
  return leave(core, rip, regs.rsp, regs.rflags);
}

KvmEngine::Next KvmEngine::take_exception(Core& core, unsigned number) {
  const MonitorPage::Frame frame = monitor_.frame(number, vcpu_.regs().rsp);
  const u64 cr2 = vcpu_.sregs().cr2;
  u64 rip = frame.rip;
  const bool stepped = number == vector::db && (frame.rflags & rflags::tf);
  // Traps of one-byte instructions arrive behind them; where they are faults RIP is right already.
  if (number == vector::bp) {
    if (code_byte(rip - 1) == 0xcc) rip -= 1;
  } else if (number == vector::db && !stepped && code_byte(rip).value_or(0) != 0xf1) {
    rip -= 1;  // some KVMs report INT1 behind it, some in front
  }
  leave(core, rip, frame.rsp, frame.rflags);
  if (stepped) {
    // POPF set TF and the instruction behind it has run: its trap is due here.
    core.dr[6] |= 0xffff0ff0 | 0x4000;
    core.pending = {EventKind::trap, vector::db, false, 0, 0, 0};
    return Next::trap;
  }
  if (number != vector::pf || (core.sysflags & (rflags::tf | rflags::ac))) return Next::trap;
  if (!take_fault(core, cr2, frame.error)) return failure_.empty() ? Next::trap : Next::failed;
  ++counters_.faults;
  return Next::enter;
}

// A signal came. Where the vCPU stands between two instructions of user code, that is the state.
KvmEngine::Next KvmEngine::take_interruption(Core& core) {
  const kvm_regs& regs = vcpu_.regs();
  if (monitor_.covers(regs.rip) || (vcpu_.sregs().cs.selector & 3) != 3) return Next::enter;
  auto busy = vcpu_.exception_is_on_its_way();
  if (!busy) return fail(busy.error());
  if (*busy) return Next::enter;
  leave(core, regs.rip, regs.rsp, regs.rflags);
  stop_wanted_ = false;
  return Next::kicked;
}

// An exit that is not understood, in user code: the software CPU shall see what is there.
KvmEngine::Next KvmEngine::take_other_exit(Core& core, std::uint32_t reason) {
  const kvm_regs& regs = vcpu_.regs();
  const bool in_user_code = !monitor_.covers(regs.rip) && (vcpu_.sregs().cs.selector & 3) == 3 &&
                            (reason == KVM_EXIT_INTERNAL_ERROR || reason == KVM_EXIT_IO ||
                             reason == KVM_EXIT_MMIO || reason == KVM_EXIT_HLT);
  if (in_user_code) return leave(core, regs.rip, regs.rsp, regs.rflags);
  return fail(format_text("the vCPU stopped with exit %u at %llx", reason,
                          static_cast<unsigned long long>(regs.rip)));
}

KvmEngine::Next KvmEngine::fail(const std::string& why) {
  if (failure_.empty()) failure_ = "the host's KVM failed: " + why;
  return Next::failed;
}

}  // namespace node_mesh
