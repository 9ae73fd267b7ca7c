// PUSH POP PUSHF POPF ENTER LEAVE PUSHA POPA. The 64-bit forms have fast handlers; outside 64-bit
// mode the stack pointer's width is that of the stack segment, looked up when the instruction runs.
#include "cpu/decode.h"
#include "cpu/stack.h"
#include "cpu/threading.h"

namespace node_mesh {
namespace {

template <class T, bool kSlow>
[[gnu::noinline]] void push_r(Core* c, const Insn* i) {
  const T value = get_reg<T>(c, i->reg);
  const u64 sp = c->gpr[rsp] - sizeof(T);
  NM_STORE(T, sp, value, (push_r<T, true>));
  c->gpr[rsp] = sp;
  NM_NEXT;
}
template <class T, bool kSlow>
[[gnu::noinline]] void push_i(Core* c, const Insn* i) {
  const u64 sp = c->gpr[rsp] - sizeof(T);
  NM_STORE(T, sp, static_cast<T>(i->imm), (push_i<T, true>));
  c->gpr[rsp] = sp;
  NM_NEXT;
}
template <class T, bool kSlow>
[[gnu::noinline]] void pop_r(Core* c, const Insn* i) {
  NM_LOAD(T, value, c->gpr[rsp], (pop_r<T, true>));
  c->gpr[rsp] += sizeof(T);
  set_reg<T>(c, i->reg, value);
  NM_NEXT;
}

template <class T>
void push_r_any(Core* c, const Insn* i) {
  push<T>(c, i, get_reg<T>(c, i->reg));
  NM_NEXT;
}
template <class T>
void push_i_any(Core* c, const Insn* i) {
  push<T>(c, i, static_cast<T>(i->imm));
  NM_NEXT;
}
template <class T>
void pop_r_any(Core* c, const Insn* i) {
  const T value = pop<T>(c, i);
  set_reg<T>(c, i->reg, value);
  NM_NEXT;
}
template <class T, Ea kEa>
void push_m(Core* c, const Insn* i) {
  push<T>(c, i, load<T>(c, i, effective_address<kEa>(c, i)));
  NM_NEXT;
}
// The address is computed with the stack pointer already moved; a fault moves it back.
template <class T, Ea kEa>
void pop_m(Core* c, const Insn* i) {
  const T value = peek_stack<T>(c, i, 0);
  const u64 before = c->gpr[rsp];
  move_stack(c, sizeof(T));
  const u64 va = effective_address<kEa>(c, i);
  const u64 after = c->gpr[rsp];
  c->gpr[rsp] = before;
  store<T>(c, i, va, value);
  c->gpr[rsp] = after;
  NM_NEXT;
}

Handler select_push(Decoding& d) {
  const unsigned bits = d.zydis.operand_width;
  if (d.is_memory(0)) {
    d.memory(0);
    return by_wide_width(bits, [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return push_m<T, kEa>; });
    });
  }
  d.out.extra = insn_stack_segment;
  if (d.is_immediate(0)) {
    d.out.imm = static_cast<u64>(d.operands[0].imm.value.s);
    return by_wide_width(
        bits, [&]<class T>() -> Handler { return d.code64() ? push_i<T, false> : push_i_any<T>; });
  }
  if (!d.is_gpr(0)) return nullptr;  // segment registers are elsewhere
  d.out.reg = d.gpr(0);
  return by_wide_width(
      bits, [&]<class T>() -> Handler { return d.code64() ? push_r<T, false> : push_r_any<T>; });
}

Handler select_pop(Decoding& d) {
  const unsigned bits = d.zydis.operand_width;
  if (d.is_memory(0)) {
    d.memory(0);
    return by_wide_width(bits, [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return pop_m<T, kEa>; });
    });
  }
  if (!d.is_gpr(0)) return nullptr;
  d.out.extra = insn_stack_segment;
  d.out.reg = d.gpr(0);
  return by_wide_width(
      bits, [&]<class T>() -> Handler { return d.code64() ? pop_r<T, false> : pop_r_any<T>; });
}

template <class T>
void op_pushf(Core* c, const Insn* i) {
  push<T>(c, i, static_cast<T>(c->read_rflags() & ~(rflags::vm | rflags::rf)));
  NM_NEXT;
}
// May let an interrupt in, or start single-stepping: back to the run loop.
template <class T>
void op_popf(Core* c, const Insn* i) {
  const T value = pop<T>(c, i);
  u64 mask = rflags::status_bits | rflags::tf | rflags::df | rflags::nt;
  if (sizeof(T) > 2) mask |= rflags::ac | rflags::id | rflags::rf;
  const auto iopl = static_cast<unsigned>((c->sysflags & rflags::iopl) >> 12);
  if (c->cpl <= iopl) mask |= rflags::interrupt;
  if (c->cpl == 0) mask |= rflags::iopl;
  write_rflags(c, value & ~rflags::rf, mask);
  return leave_behind(c, i);
}
Handler select_pushf(Decoding& d) {
  d.out.extra |= insn_stack_segment;
  return by_wide_width(d.zydis.operand_width, []<class T>() -> Handler { return op_pushf<T>; });
}
Handler select_popf(Decoding& d) {
  d.ends_block = true;
  d.out.extra |= insn_stack_segment;
  return by_wide_width(d.zydis.operand_width, []<class T>() -> Handler { return op_popf<T>; });
}

template <class T, bool kSlow>
[[gnu::noinline]] void leave64(Core* c, const Insn* i) {
  const u64 frame = c->gpr[rbp];
  NM_LOAD(T, value, frame, (leave64<T, true>));
  c->gpr[rsp] = frame + sizeof(T);
  set_reg<T>(c, gpr_offset(rbp), value);
  NM_NEXT;
}
template <class T>
void leave_any(Core* c, const Insn* i) {
  const u64 frame = c->gpr[rbp] & c->stack_mask;
  const T value = load<T>(c, i, stack_address(c, frame));
  set_stack_pointer(c, frame + sizeof(T));
  set_reg<T>(c, gpr_offset(rbp), value);
  NM_NEXT;
}
Handler select_leave(Decoding& d) {
  d.out.extra |= insn_stack_segment;
  return by_wide_width(d.zydis.operand_width, [&]<class T>() -> Handler {
    return d.code64() ? leave64<T, false> : leave_any<T>;
  });
}

template <class T>
void op_enter(Core* c, const Insn* i) {
  const u64 level = i->reg & 31;
  const u64 mask = c->code64() ? ~u64{0} : c->stack_mask;
  const u64 start = c->gpr[rsp];
  u64 sp = start - sizeof(T);
  const u64 frame = sp;
  store<T>(c, i, stack_address(c, sp & mask), get_reg<T>(c, gpr_offset(rbp)));
  for (u64 k = 1; k < level; ++k) {
    const T link = load<T>(c, i, stack_address(c, (c->gpr[rbp] - k * sizeof(T)) & mask));
    sp -= sizeof(T);
    store<T>(c, i, stack_address(c, sp & mask), link);
  }
  if (level != 0) {
    sp -= sizeof(T);
    store<T>(c, i, stack_address(c, sp & mask), static_cast<T>(frame));
  }
  sp -= i->imm;
  probe_write(c, i, stack_address(c, sp & mask), sizeof(T));
  set_stack_pointer(c, sp);
  if (c->code64()) {
    set_reg<T>(c, gpr_offset(rbp), static_cast<T>(frame));
  } else {
    set_reg<T>(c, gpr_offset(rbp), static_cast<T>((c->gpr[rbp] & ~mask) | (frame & mask)));
  }
  NM_NEXT;
}
Handler select_enter(Decoding& d) {
  d.out.extra |= insn_stack_segment;
  d.out.imm = d.immediate(0) & 0xffff;
  d.out.reg = static_cast<u8>(d.immediate(1) & 31);
  return by_wide_width(d.zydis.operand_width, []<class T>() -> Handler { return op_enter<T>; });
}

template <class T>
void op_pusha(Core* c, const Insn* i) {
  const u64 start = c->gpr[rsp];
  for (unsigned reg = 0; reg < 8; ++reg) {
    const u64 value = reg == rsp ? start : c->gpr[reg];
    const u64 at = (start - (reg + 1) * sizeof(T)) & c->stack_mask;
    store<T>(c, i, stack_address(c, at), static_cast<T>(value));
  }
  set_stack_pointer(c, start - 8 * sizeof(T));
  NM_NEXT;
}
template <class T>
void op_popa(Core* c, const Insn* i) {
  T values[8];
  for (unsigned k = 0; k < 8; ++k)
    values[k] = peek_stack<T>(c, i, k * sizeof(T));
  for (unsigned k = 0; k < 8; ++k) {
    if (7 - k != rsp) set_reg<T>(c, gpr_offset(7 - k), values[k]);
  }
  move_stack(c, 8 * sizeof(T));
  NM_NEXT;
}
Handler select_pusha(Decoding& d) {
  return d.zydis.operand_width == 16 ? op_pusha<u16> : op_pusha<u32>;
}
Handler select_popa(Decoding& d) {
  return d.zydis.operand_width == 16 ? op_popa<u16> : op_popa<u32>;
}

}  // namespace

void register_stack(SelectorTable& table) {
  table[ZYDIS_MNEMONIC_PUSH] = select_push;
  table[ZYDIS_MNEMONIC_POP] = select_pop;
  for (const ZydisMnemonic m :
       {ZYDIS_MNEMONIC_PUSHF, ZYDIS_MNEMONIC_PUSHFD, ZYDIS_MNEMONIC_PUSHFQ}) {
    table[m] = select_pushf;
  }
  for (const ZydisMnemonic m : {ZYDIS_MNEMONIC_POPF, ZYDIS_MNEMONIC_POPFD, ZYDIS_MNEMONIC_POPFQ}) {
    table[m] = select_popf;
  }
  table[ZYDIS_MNEMONIC_LEAVE] = select_leave;
  table[ZYDIS_MNEMONIC_ENTER] = select_enter;
  table[ZYDIS_MNEMONIC_PUSHA] = select_pusha;
  table[ZYDIS_MNEMONIC_PUSHAD] = select_pusha;
  table[ZYDIS_MNEMONIC_POPA] = select_popa;
  table[ZYDIS_MNEMONIC_POPAD] = select_popa;
}

}  // namespace node_mesh
