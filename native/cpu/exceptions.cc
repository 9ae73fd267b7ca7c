#include "cpu/exceptions.h"

#include "cpu/access.h"
#include "cpu/canonical_flags.h"
#include "cpu/mmu.h"
#include "cpu/segmentation.h"
#include "cpu/user_stretch.h"

namespace node_mesh {

void unwind(Core* c, const Insn* i, Unwind why) {
  c->in_flight = 0;
  if (i != nullptr) {
    c->icount -= i->left;
    c->rip = c->page_va + i->offset;
  }
  longjmp(c->unwind_target, static_cast<int>(why));
}

void raise(Core* c, const Insn* i, u8 vector_number) {
  c->pending = {EventKind::fault, vector_number, false, 0, 0, 0};
  unwind(c, i, Unwind::event);
}
void raise_error(Core* c, const Insn* i, u8 vector_number, u32 error) {
  c->pending = {EventKind::fault, vector_number, true, error, 0, 0};
  unwind(c, i, Unwind::event);
}
void raise_page_fault(Core* c, const Insn* i, u64 va, u32 error) {
  c->pending = {EventKind::fault, vector::pf, true, error, va, 0};
  unwind(c, i, Unwind::event);
}
void raise_behind(Core* c, const Insn* i, u8 vector_number, EventKind kind) {
  c->pending = {kind, vector_number, false, 0, 0, i->length};
  unwind(c, i, Unwind::event);
}
void raise_unsupported(Core* c, const Insn* i, const char* reason) {
  c->unsupported_reason = reason;
  c->exit = RunExit::unsupported;
  unwind(c, i, Unwind::exit);
}
void raise_non_canonical(Core* c, const Insn* i) {
  const bool stack = i != nullptr && (i->extra & insn_stack_segment);
  raise_error(c, i, stack ? vector::ss : vector::gp, 0);
}

void leave_user_mode(Core* c) {
  if (c->uncounted) end_uncounted(c);
  c->icount = c->stretch_steps;
  c->shadow_at = Core::no_shadow;
}
void enter_user_mode(Core* c) {
  c->stretch_steps = c->icount;
  c->icount = 0;
  c->hand_over_known = false;
  c->shadow_at = Core::no_shadow;
}

namespace {

bool is_contributory(u8 v) {
  return v == vector::de || v == vector::ts || v == vector::np || v == vector::ss ||
         v == vector::gp;
}

// Error codes of faults met while delivering: EXT unless a software interrupt asked for it.
struct Delivery {
  Core* c;
  const PendingEvent& event;
  u32 ext() const { return event.kind == EventKind::software ? 0 : 1; }
  [[noreturn]] void fail(u8 vector_number, u32 error) const {
    raise_error(c, nullptr, vector_number, error | ext());
  }
};

struct Gate {
  u16 selector;
  u8 ist;
  bool trap;
  u64 target;
};

Gate read_gate(const Delivery& d) {
  Core* c = d.c;
  const u32 error = u32{d.event.vector} * 8 + 2;
  const u64 offset = u64{d.event.vector} * 16;
  if (offset + 15 > c->idt_limit) d.fail(vector::gp, error);
  u64 words[2];
  system_read(c, nullptr, c->idt_base + offset, words, sizeof words);
  const u64 low = words[0];
  const unsigned type = (low >> 40) & 0x1f;
  if (type != 0x0e && type != 0x0f) d.fail(vector::gp, error);
  const unsigned dpl = (low >> 45) & 3;
  if (d.event.kind == EventKind::software && dpl < c->cpl) d.fail(vector::gp, error);
  if (!((low >> 47) & 1)) d.fail(vector::np, error);
  return {static_cast<u16>(low >> 16), static_cast<u8>((low >> 32) & 7), type == 0x0f,
          (low & 0xffff) | ((low >> 32) & 0xffff0000) | (words[1] << 32)};
}

// The new stack pointer before alignment.
u64 delivery_stack(const Delivery& d, unsigned new_cpl, u8 ist) {
  Core* c = d.c;
  if (ist == 0 && new_cpl == c->cpl) return c->gpr[rsp];
  const u64 offset = ist != 0 ? 0x24 + (ist - 1u) * 8u : 4 + new_cpl * 8u;
  if (offset + 7 > c->tr.limit) d.fail(vector::ts, c->tr.selector & 0xfffcu);
  u64 stack;
  system_read(c, nullptr, c->tr_base + offset, &stack, sizeof stack);
  if (!is_canonical(stack)) d.fail(vector::ss, 0);
  return stack;
}

void push_frame(const Delivery& d, u64 sp, unsigned new_cpl, u64 flags_image) {
  Core* c = d.c;
  u64 frame[6];
  unsigned words = 0;
  if (d.event.has_error) frame[words++] = d.event.error;
  frame[words++] = c->architectural_ip(c->rip + d.event.length);
  frame[words++] = c->segments[seg_cs].selector;
  frame[words++] = flags_image;
  frame[words++] = c->gpr[rsp];
  frame[words++] = c->segments[seg_ss].selector;
  const u64 at = sp - words * 8u;
  if (!is_canonical(at) || !is_canonical(sp - 1)) d.fail(vector::ss, 0);
  if (new_cpl == 3) {
    slow_write(c, nullptr, at, frame, words * 8u);
  } else {
    system_write(c, nullptr, at, frame, words * 8u);
  }
  c->gpr[rsp] = at;
}

}  // namespace

void deliver_event(Core* c, const PendingEvent& event) {
  const Delivery d{c, event};
  c->delivering = event.kind;
  c->delivering_vector = event.vector;
  if (c->user()) make_user_flags_canonical(c, c->rip + event.length);
  if (event.vector == vector::pf && event.kind == EventKind::fault) c->cr2 = event.cr2;
  const Gate gate = read_gate(d);
  const u32 selector_error = gate.selector & 0xfffcu;
  if (selector_error == 0) d.fail(vector::gp, 0);
  Descriptor code;
  if (!read_descriptor(c, nullptr, gate.selector, code)) d.fail(vector::gp, selector_error);
  if (!code.is_code() || code.dpl() > c->cpl) d.fail(vector::gp, selector_error);
  if (!code.long_mode() || code.default_big()) d.fail(vector::gp, selector_error);
  if (!code.present()) d.fail(vector::np, selector_error);
  const unsigned new_cpl = code.conforming() ? c->cpl : code.dpl();
  const u64 stack = delivery_stack(d, new_cpl, gate.ist) & ~u64{15};
  if (!is_canonical(gate.target)) d.fail(vector::gp, 0);

  u64 image = c->read_rflags();
  if (event.kind == EventKind::fault && event.vector != vector::db) image |= rflags::rf;
  const bool from_user = c->user();
  push_frame(d, stack, new_cpl, image);

  // Nothing can fail from here on.
  if (new_cpl != c->cpl) load_null_stack(c, static_cast<u16>(new_cpl));
  if (from_user) leave_user_mode(c);
  ++c->icount;
  load_code_segment(c, static_cast<u16>(selector_error | new_cpl), code, new_cpl);
  if (from_user && new_cpl == 3) enter_user_mode(c);
  u64 cleared = rflags::tf | rflags::nt | rflags::rf;
  if (!gate.trap) cleared |= rflags::interrupt;
  c->sysflags &= ~cleared;
  c->rip = gate.target;
  c->halted = false;
  c->delivering = EventKind::none;
  update_modes(c);
}

bool combine_events(Core* c) {
  const EventKind first_kind = c->delivering;
  c->delivering = EventKind::none;
  const u8 first = c->delivering_vector, second = c->pending.vector;
  if (first_kind == EventKind::fault && first == vector::df) return false;
  const bool first_is_fault = first_kind == EventKind::fault;
  const bool is_double =
      first_is_fault &&
      ((is_contributory(first) && is_contributory(second)) ||
       (first == vector::pf && (is_contributory(second) || second == vector::pf)));
  if (is_double) c->pending = {EventKind::fault, vector::df, true, 0, 0, 0};
  return true;
}

}  // namespace node_mesh
