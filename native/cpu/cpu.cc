#include "cpu/cpu.h"

#include <cstdio>
#include <cstring>

#include "cpu/block_cache.h"
#include "cpu/core.h"
#include "cpu/debug_registers.h"
#include "cpu/mmu.h"
#include "cpu/run_loop.h"
#include "cpu/segmentation.h"
#include "cpu/stub/stub.h"
#include "cpu/user_stretch.h"
#include "kvm/user_engine.h"
#include "machine/check.h"
#include "machine/format_text.h"

namespace node_mesh {

class Cpu::Impl {
 public:
  Impl(GuestMemory& memory, Bus& bus) : mmu_(core_, memory), blocks_(core_, memory) {
    core_.memory = &memory;
    core_.bus = &bus;
    core_.mmu = &mmu_;
    core_.blocks = &blocks_;
    x87_power_on(core_.fpu);
  }

  Core core_;
  Mmu mmu_;
  BlockCache blocks_;
  std::unique_ptr<UserEngine> engine_;
};

Cpu::Cpu(GuestMemory& memory, Bus& bus) : impl_(std::make_unique<Impl>(memory, bus)) {
  restore(CpuSnapshot{});
}
Cpu::~Cpu() = default;

RunExit Cpu::run(Position limit) {
  const RunExit exit = run_core(&impl_->core_, limit);
  bring_fpu(&impl_->core_);
  x87_flush(impl_->core_.fpu);
  if (exit == RunExit::preempted) note_forced_stop(&impl_->core_);
  if (impl_->engine_ && !impl_->engine_->failure().empty()) return RunExit::engine_failed;
  return exit;
}

Position Cpu::position() const { return impl_->core_.position(); }
bool Cpu::in_user_mode() const { return impl_->core_.user(); }
bool Cpu::halted() const { return impl_->core_.halted; }
void Cpu::set_interrupt_line(bool raised) { impl_->core_.interrupt_line = raised; }
std::uint64_t Cpu::tsc_offset() const { return impl_->core_.tsc_offset; }

void Cpu::request_stop(StopUrgency urgency) {
  Core& c = impl_->core_;
  if (urgency == StopUrgency::tick && impl_->engine_ && impl_->engine_->defers_stop()) {
    c.stop_deferred.store(true, std::memory_order_seq_cst);
    return;
  }
  c.stop_requested.store(true, std::memory_order_seq_cst);
  c.event.store(0, std::memory_order_seq_cst);
  if (impl_->engine_) impl_->engine_->request_stop();
}

void Cpu::use_engine(std::unique_ptr<UserEngine> engine) {
  bring_fpu(&impl_->core_);
  impl_->mmu_.flush_everything();
  impl_->engine_ = std::move(engine);
  impl_->core_.engine = impl_->engine_.get();
  impl_->mmu_.set_engine(impl_->engine_.get());
}
const UserEngine* Cpu::engine() const { return impl_->engine_.get(); }
const std::string& Cpu::engine_failure() const {
  static const std::string none;
  return impl_->engine_ ? impl_->engine_->failure() : none;
}
void Cpu::collect_dirty_pages() {
  if (impl_->engine_) impl_->engine_->collect_dirty_pages(*impl_->core_.memory);
}
void Cpu::set_preemptible(bool preemptible) { impl_->core_.preemptible = preemptible; }

void Cpu::forget_writable_pages() { impl_->mmu_.forget_writable_pages(); }
void Cpu::memory_written(std::uint64_t gpa, std::uint64_t size_bytes) {
  impl_->mmu_.memory_written(gpa, size_bytes);
}

namespace {

SegmentSnapshot segment_snapshot(const Segment& segment, u64 base) {
  return {segment.selector, base, segment.limit, segment.attributes};
}
Segment segment_of(const SegmentSnapshot& from) {
  return {from.selector, from.attributes, from.limit};
}
// A forced stop ends a stretch of user mode, and the next one begins in its place.
void begin_next_stretch(Core& c) {
  ++c.stretch_steps;
  c.icount = 0;
  c.hand_over_known = false;
  c.shadow_at = Core::no_shadow;
}

// The registers that are plain copies, in either direction.
template <class CoreRef, class SnapshotRef, class Copy>
void for_each_plain_register(CoreRef& c, SnapshotRef& s, Copy copy) {
  copy(c.cr0, s.cr0);
  copy(c.cr2, s.cr2);
  copy(c.cr3, s.cr3);
  copy(c.cr4, s.cr4);
  copy(c.cr8, s.cr8);
  copy(c.efer, s.efer);
  copy(c.star, s.star);
  copy(c.lstar, s.lstar);
  copy(c.cstar, s.cstar);
  copy(c.sfmask, s.sfmask);
  copy(c.kernel_gs_base, s.kernel_gs_base);
  copy(c.tsc_offset, s.tsc_offset);
  copy(c.tsc_aux, s.tsc_aux);
  copy(c.pat, s.pat);
  copy(c.misc_enable, s.misc_enable);
  copy(c.sysenter_cs, s.sysenter_cs);
  copy(c.sysenter_esp, s.sysenter_esp);
  copy(c.sysenter_eip, s.sysenter_eip);
  copy(c.tr_base, s.tr.base);
  copy(c.ldtr_base, s.ldtr.base);
  copy(c.gdt_base, s.gdtr.base);
  copy(c.gdt_limit, s.gdtr.limit);
  copy(c.idt_base, s.idtr.base);
  copy(c.idt_limit, s.idtr.limit);
}

}  // namespace

CpuSnapshot Cpu::snapshot() const {
  const Core& c = impl_->core_;
  CpuSnapshot s;
  for_each_plain_register(c, s, [](const auto& from, auto& to) { to = from; });
  std::copy(std::begin(c.gpr), std::end(c.gpr), s.gpr.begin());
  std::copy(std::begin(c.dr), std::end(c.dr), s.dr.begin());
  for (unsigned index = 0; index < segment_count; ++index) {
    s.segments[index] = segment_snapshot(c.segments[index], c.seg_base[index]);
  }
  s.tr = segment_snapshot(c.tr, c.tr_base);
  s.ldtr = segment_snapshot(c.ldtr, c.ldtr_base);
  s.rip = c.architectural_ip(c.rip);
  s.rflags = c.read_rflags();
  s.fpu = c.fpu;
  s.position = c.position();
  s.halted = c.halted;
  s.interrupt_shadow = c.icount == c.shadow_at ? 1 : 0;
  return s;
}

void Cpu::restore(const CpuSnapshot& s) {
  Core& c = impl_->core_;
  for_each_plain_register(c, s, [](auto& to, const auto& from) { to = from; });
  std::copy(s.gpr.begin(), s.gpr.end(), std::begin(c.gpr));
  std::copy(s.dr.begin(), s.dr.end(), std::begin(c.dr));
  for (unsigned index = 0; index < segment_count; ++index) {
    c.segments[index] = segment_of(s.segments[index]);
    c.seg_base[index] = s.segments[index].base;
  }
  c.tr = segment_of(s.tr);
  c.ldtr = segment_of(s.ldtr);
  // SS.DPL is the privilege level where CS is conforming; CS.RPL is it everywhere else.
  c.cpl = c.segments[seg_cs].selector & 3;
  update_code_mode(&c);
  c.rip = c.linear_ip(s.rip);
  set_status(&c, s.rflags);
  c.sysflags = s.rflags & rflags::system_bits;
  bring_fpu(&c);
  x87_flush(c.fpu);
  c.fpu = s.fpu;
  x87_make_canonical(c.fpu);
  c.uncounted = c.hand_over_known = false;
  c.stretch_steps = c.user() ? s.position.steps : 0;
  c.icount = c.user() ? s.position.user_steps : s.position.steps;
  c.shadow_at = s.interrupt_shadow != 0 ? c.icount : Core::no_shadow;
  c.halted = s.halted;
  c.pending = {};
  c.delivering = EventKind::none;
  c.run_alone_next = c.exit_wanted = c.alone = false;
  c.debug_hits = 0;
  impl_->blocks_.kill_everything();
  impl_->mmu_.flush_everything();
  impl_->mmu_.load_cr3(c.cr3);
  update_modes(&c);
}

std::unique_ptr<Preemption> Cpu::take_preemption() {
  Core& c = impl_->core_;
  NM_CHECK(c.preemption != nullptr && c.user());
  begin_next_stretch(c);
  return std::move(c.preemption);
}

bool Cpu::apply_preemption(const Preemption& preemption) {
  Core& c = impl_->core_;
  if (!c.user()) return false;
  for (const Preemption::Page& page : preemption.pages) {
    if (!c.memory->contains(page.gfn * page_bytes, page_bytes)) return false;
  }
  for (const Preemption::Page& page : preemption.pages) {
    c.memory->write(page.gfn * page_bytes, page.bytes);
    impl_->mmu_.memory_written(page.gfn * page_bytes, page_bytes);
  }
  const UserState& state = preemption.state;
  std::copy(state.gpr.begin(), state.gpr.end(), std::begin(c.gpr));
  for (unsigned index = 0; index < segment_count; ++index) {
    c.segments[index] = segment_of(state.segments[index]);
    c.seg_base[index] = state.segments[index].base;
  }
  update_code_mode(&c);
  c.rip = c.linear_ip(state.rip);
  set_status(&c, state.rflags);
  c.sysflags = state.rflags & rflags::system_bits;
  bring_fpu(&c);
  x87_flush(c.fpu);
  c.fpu = state.fpu;
  x87_make_canonical(c.fpu);
  begin_next_stretch(c);
  update_modes(&c);
  return true;
}

std::string Cpu::report() const {
  const Core& c = impl_->core_;
  static constexpr const char* names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  const auto number = [](u64 value) { return static_cast<unsigned long long>(value); };
  const Position at = c.position();
  std::string text =
      format_text("%s at position (%llu, %llu), cpl %u\nrip %016llx rflags %08llx",
                  c.unsupported_reason.empty() ? "stopped" : c.unsupported_reason.c_str(),
                  number(at.steps), number(at.user_steps), unsigned{c.cpl},
                  number(c.architectural_ip(c.rip)), number(c.read_rflags()));
  for (unsigned index = 0; index < 16; ++index) {
    text += format_text("%s%-3s %016llx", index % 4 == 0 ? "\n" : "  ", names[index],
                        number(c.gpr[index]));
  }
  text += format_text("\ncr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx cs %04x ss %04x\ncode",
                      number(c.cr0), number(c.cr2), number(c.cr3), number(c.cr4), number(c.efer),
                      unsigned{c.segments[seg_cs].selector}, unsigned{c.segments[seg_ss].selector});
  const PagingControl paging{c.cr3, false, (c.efer & efer::nxe) != 0};
  for (u64 va = c.rip; va < c.rip + 15; ++va) {
    const PageWalk walk = walk_pages(*c.memory, paging, va, Access::read, false);
    if (!walk.ok || !c.memory->contains(walk.gpa, 1)) break;
    text += format_text(" %02x", std::to_integer<unsigned>(c.memory->base()[walk.gpa]));
  }
  return text;
}

void update_modes(Core* c) {
  c->sse_blocked = (c->cr0 & (cr0::em | cr0::ts)) || !(c->cr4 & cr4::osfxsr) || c->fpu_away;
  c->stepping = (c->sysflags & rflags::tf) || breakpoints_enabled(c);
  c->mmu->select_tables();
}

void write_rflags(Core* c, u64 value, u64 mask) {
  const u64 merged = (c->read_rflags() & ~mask) | (value & mask);
  const u64 system = merged & rflags::system_bits;
  const u64 changed = system ^ c->sysflags;
  set_status(c, merged);
  c->sysflags = system;
  if (changed & (rflags::tf | rflags::ac)) update_modes(c);
}

}  // namespace node_mesh
