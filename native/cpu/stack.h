// Pushing and popping at the current stack pointer, in any mode.
#pragma once

#include "cpu/access.h"

namespace node_mesh {

inline u64 stack_address(const Core* c, u64 sp) {
  return c->code64() ? sp : static_cast<u32>(sp + c->seg_base[seg_ss]);
}

inline void set_stack_pointer(Core* c, u64 sp) {
  if (c->code64()) {
    c->gpr[rsp] = sp;
  } else if (c->stack_mask == 0xffff) {
    c->gpr[rsp] = (c->gpr[rsp] & ~u64{0xffff}) | (sp & 0xffff);
  } else {
    c->gpr[rsp] = static_cast<u32>(sp);
  }
}
inline void move_stack(Core* c, u64 delta) { set_stack_pointer(c, c->gpr[rsp] + delta); }

// Address of the value `delta` bytes from the top.
inline u64 stack_top(const Core* c, u64 delta) {
  const u64 sp = c->gpr[rsp] + delta;
  return stack_address(c, c->code64() ? sp : sp & c->stack_mask);
}
inline void require_stack(Core* c, const Insn* i, u64 va, u64 size) {
  if (!is_canonical(va) || !is_canonical(va + size - 1)) raise_error(c, i, vector::ss, 0);
}
template <class T>
inline T peek_stack(Core* c, const Insn* i, u64 delta) {
  const u64 va = stack_top(c, delta);
  require_stack(c, i, va, sizeof(T));
  return load<T>(c, i, va);
}
template <class T>
inline void push(Core* c, const Insn* i, T value) {
  const u64 va = stack_top(c, u64{0} - sizeof(T));
  require_stack(c, i, va, sizeof(T));
  store<T>(c, i, va, value);
  move_stack(c, u64{0} - sizeof(T));
}
template <class T>
inline T pop(Core* c, const Insn* i) {
  const T value = peek_stack<T>(c, i, 0);
  move_stack(c, sizeof(T));
  return value;
}

}  // namespace node_mesh
