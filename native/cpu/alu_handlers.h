// Handlers of two- and one-operand arithmetic, as templates: the plain ones of op_arithmetic.cc,
// which op_fused.cc pairs with conditional branches.
#pragma once

#include "cpu/access.h"
#include "cpu/flags.h"

namespace node_mesh {

template <class Op, class T>
void alu_rr(Core* c, const Insn* i) {
  if constexpr (Op::writes) {
    T value = get_reg<T>(c, i->reg);
    Op::run(c, value, get_reg<T>(c, i->src));
    set_reg<T>(c, i->reg, value);
  } else {
    Op::run(c, get_reg<T>(c, i->reg), get_reg<T>(c, i->src));
  }
  NM_NEXT;
}

template <class Op, class T>
void alu_ri(Core* c, const Insn* i) {
  if constexpr (Op::writes) {
    T value = get_reg<T>(c, i->reg);
    Op::run(c, value, static_cast<T>(i->imm));
    set_reg<T>(c, i->reg, value);
  } else {
    Op::run(c, get_reg<T>(c, i->reg), static_cast<T>(i->imm));
  }
  NM_NEXT;
}

template <class Op, class T, Ea kEa, bool kSlow>
[[gnu::noinline]] void alu_rm(Core* c, const Insn* i) {
  NM_LOAD(T, operand, effective_address<kEa>(c, i), (alu_rm<Op, T, kEa, true>));
  if constexpr (Op::writes) {
    T value = get_reg<T>(c, i->reg);
    Op::run(c, value, operand);
    set_reg<T>(c, i->reg, value);
  } else {
    Op::run(c, get_reg<T>(c, i->reg), operand);
  }
  NM_NEXT;
}

// The memory operand comes first; `kImmediate` picks where the second one is.
template <class Op, class T, Ea kEa, bool kImmediate, bool kSlow>
[[gnu::noinline]] void alu_m(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  const T source = kImmediate ? static_cast<T>(i->imm) : get_reg<T>(c, i->reg);
  if constexpr (!Op::writes) {
    NM_LOAD(T, value, va, (alu_m<Op, T, kEa, kImmediate, true>));
    Op::run(c, value, source);
  } else if constexpr (kSlow) {
    const u16 before = c->flags;
    T value = slow_load_for_write<T>(c, i, va);
    Op::run(c, value, source);
    const u16 after = c->flags;
    c->flags = before;  // the store may yet unwind
    slow_store<T>(c, i, va, value);
    c->flags = after;
  } else {
    u8* at;
    if (!tlb_hit<sizeof(T)>(c->tlb_write, va, at)) [[unlikely]] {
      return alu_m<Op, T, kEa, kImmediate, true>(c, i);
    }
    Op::run_at(c, reinterpret_cast<T*>(at), source);
  }
  NM_NEXT;
}

template <class Op, class T>
void unary_r(Core* c, const Insn* i) {
  T value = get_reg<T>(c, i->reg);
  Op::run(c, value);
  set_reg<T>(c, i->reg, value);
  NM_NEXT;
}

template <class Op, class T, Ea kEa, bool kSlow>
[[gnu::noinline]] void unary_m(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  if constexpr (kSlow) {
    const u16 before = c->flags;
    T value = slow_load_for_write<T>(c, i, va);
    Op::run(c, value);
    const u16 after = c->flags;
    c->flags = before;
    slow_store<T>(c, i, va, value);
    c->flags = after;
  } else {
    u8* at;
    if (!tlb_hit<sizeof(T)>(c->tlb_write, va, at)) [[unlikely]] {
      return unary_m<Op, T, kEa, true>(c, i);
    }
    T value = *reinterpret_cast<T*>(at);
    Op::run(c, value);
    *reinterpret_cast<T*>(at) = value;
  }
  NM_NEXT;
}

}  // namespace node_mesh
