#include "cpu/run_loop.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "cpu/debug_registers.h"
#include "cpu/mmu.h"
#include "cpu/threading.h"
#include "cpu/user_stretch.h"

namespace node_mesh {
namespace {

// How far the active counter may go before the limit is reached.
u64 counter_limit(const Core* c, Position limit) {
  if (!c->user()) return limit.steps + (limit.user_steps != 0 ? 1 : 0);
  return c->stretch_steps < limit.steps ? ~u64{0} : limit.user_steps;
}

bool shadowed(const Core* c) { return c->icount == c->shadow_at; }

void run_block(Core* c, const Block* block) {
  c->page_va = c->rip & ~page_mask;
  c->icount += block->count;
#ifdef NM_TRAMPOLINE
  c->trampoline = block->insns;
  while (const Insn* i = c->trampoline)
    i->fn(c, i);
#else
  block->insns->fn(c, block->insns);
#endif
}

// The trap after an instruction that was stepped or touched a watched address. The instruction and
// the delivery of its trap are one step: there is no boundary between them.
void raise_debug_trap(Core* c, u64 hits, bool in_kernel) {
  c->dr[6] |= hits | dr6::fixed;
  c->pending = {EventKind::trap, vector::db, false, 0, 0, 0};
  if (in_kernel) --(c->user() ? c->stretch_steps : c->icount);
}

// One instruction by itself: single-stepping, breakpoints, the last stretch before a limit, and
// whatever asked to run alone.
void run_single(Core* c) {
  const bool traced = c->sysflags & rflags::tf;
  if (c->stepping && !(c->sysflags & rflags::rf)) {
    if (const u64 hits = instruction_breakpoints(c, c->rip)) {
      c->dr[6] |= hits | dr6::fixed;
      raise(c, nullptr, vector::db);
    }
  }
  const u8 cpl_before = c->cpl;
  const Block* block = c->blocks->find(c->rip, true);
  c->alone = true;
  c->sysflags &= ~rflags::rf;
  c->event.store(c->icount + 1, std::memory_order_relaxed);
  run_block(c, block);
  c->alone = false;
  u64 hits = std::exchange(c->debug_hits, 0);
  // SYSCALL and SYSRET trap by the flags that they load.
  if (traced && (c->cpl == cpl_before || (c->sysflags & rflags::tf))) hits |= dr6::single_step;
  if (hits != 0) raise_debug_trap(c, hits, cpl_before != 3);
}

void run_some(Core* c, Position limit) {
  const bool single = c->stepping || c->run_alone_next || (c->interrupt_line && shadowed(c));
  if (!single) {
    u64 allowed = counter_limit(c, limit);
    const Block* block = c->blocks->find(c->rip, false);
    if (c->engine != nullptr && c->user() && may_hand_over(c, limit)) {
      if (!c->hand_over_known) plan_hand_over(c);
      if (c->icount + block->count > c->hand_over_at) return hand_over(c);
      allowed = std::min(allowed, c->hand_over_at);
    }
    if (allowed - c->icount >= block->count) {
      c->event.store(allowed, std::memory_order_seq_cst);
      if (c->stop_requested.load(std::memory_order_seq_cst)) c->event.store(0);
      c->sysflags &= ~rflags::rf;
      return run_block(c, block);
    }
  }
  c->run_alone_next = false;
  run_single(c);
}

[[gnu::noinline]] RunExit run_until_exit(Core* c, Position limit) {
  for (;;) {
    if (c->pending.kind != EventKind::none) {
      const PendingEvent event = std::exchange(c->pending, {});
      deliver_event(c, event);
      continue;
    }
    if (c->exit_wanted) {
      c->exit_wanted = false;
      return c->exit;
    }
    if (c->position() >= limit) return RunExit::limit;
    if (c->stop_requested.exchange(false)) {
      return c->uncounted && c->preemptible ? RunExit::preempted : RunExit::kicked;
    }
    if (c->interrupt_line && (c->sysflags & rflags::interrupt) && !shadowed(c)) {
      c->halted = false;
      deliver_event(c, {EventKind::external, c->bus->acknowledge_interrupt(), false, 0, 0, 0});
      continue;
    }
    if (c->halted) return RunExit::halted;
    c->blocks->collect();
    run_some(c, limit);
  }
}

// Control came back through unwind(): decide what that means. A value ends the run.
std::optional<RunExit> land(Core* c, Unwind why) {
  c->alone = false;
  switch (why) {
    case Unwind::alone:
      c->run_alone_next = true;
      return std::nullopt;
    case Unwind::exit:
      return c->exit;
    case Unwind::event:
      c->debug_hits = 0;
      c->run_alone_next = false;
      if (c->delivering == EventKind::none || combine_events(c)) return std::nullopt;
      c->pending = {};
      return RunExit::triple_fault;
  }
  return std::nullopt;
}

}  // namespace

RunExit run_core(Core* c, Position limit) {
  if (!(c->cr0 & cr0::pg) || !(c->efer & efer::lma)) {
    c->unsupported_reason = "the CPU is not in long mode";
    return RunExit::unsupported;
  }
  const int why = setjmp(c->unwind_target);
  if (why != 0) {
    if (const auto exit = land(c, static_cast<Unwind>(why))) return *exit;
  }
  return run_until_exit(c, limit);
}

}  // namespace node_mesh
