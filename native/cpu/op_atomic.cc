// CMPXCHG CMPXCHG8B CMPXCHG16B XADD. There is one CPU, so an instruction is atomic by itself; LOCK
// only matters for which encodings are valid, which the decoder knows.
#include "cpu/decode.h"
#include "cpu/flags.h"

namespace node_mesh {
namespace {

template <class T>
void cmpxchg_r(Core* c, const Insn* i) {
  const T value = get_reg<T>(c, i->reg);
  const T expected = get_reg<T>(c, gpr_offset(rax));
  OpCmp::run(c, expected, value);
  if (value == expected) {
    set_reg<T>(c, i->reg, get_reg<T>(c, i->src));
  } else {
    set_reg<T>(c, gpr_offset(rax), value);
  }
  NM_NEXT;
}

// Memory is written in either case, with the old value when the comparison fails.
template <class T, Ea kEa, bool kSlow>
[[gnu::noinline]] void cmpxchg_m(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  const T expected = get_reg<T>(c, gpr_offset(rax));
  const T wanted = get_reg<T>(c, i->reg);
  T value;
  if constexpr (kSlow) {
    value = slow_load_for_write<T>(c, i, va);
    slow_store<T>(c, i, va, value == expected ? wanted : value);
  } else {
    u8* at;
    if (!tlb_hit<sizeof(T)>(c->tlb_write, va, at)) [[unlikely]] {
      return cmpxchg_m<T, kEa, true>(c, i);
    }
    value = *reinterpret_cast<T*>(at);
    if (value == expected) *reinterpret_cast<T*>(at) = wanted;
  }
  OpCmp::run(c, expected, value);
  if (value != expected) set_reg<T>(c, gpr_offset(rax), value);
  NM_NEXT;
}

Handler select_cmpxchg(Decoding& d) {
  const unsigned bits = d.width(0);
  if (d.is_memory(0)) {
    d.memory(0);
    d.out.reg = d.gpr(1);
    return by_width(bits, [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return cmpxchg_m<T, kEa, false>; });
    });
  }
  d.out.reg = d.gpr(0);
  d.out.src = d.gpr(1);
  return by_width(bits, []<class T>() -> Handler { return cmpxchg_r<T>; });
}

template <class T, Ea kEa>
void cmpxchg_pair(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  if (sizeof(T) == 8 && (va & 15) != 0) raise_error(c, i, vector::gp, 0);
  T value[2];
  slow_read_for_write(c, i, va, value, sizeof value);
  const bool equal =
      value[0] == get_reg<T>(c, gpr_offset(rax)) && value[1] == get_reg<T>(c, gpr_offset(rdx));
  const T wanted[2] = {get_reg<T>(c, gpr_offset(rbx)), get_reg<T>(c, gpr_offset(rcx))};
  slow_write(c, i, va, equal ? wanted : value, sizeof value);
  c->flags = static_cast<u16>((c->flags & ~status::zf) | (equal ? status::zf : 0));
  if (!equal) {
    set_reg<T>(c, gpr_offset(rax), value[0]);
    set_reg<T>(c, gpr_offset(rdx), value[1]);
  }
  NM_NEXT;
}
template <class T>
Handler select_cmpxchg_pair(Decoding& d) {
  if (!d.is_memory(0)) return nullptr;
  d.memory(0);
  return by_ea(d.ea, []<Ea kEa>() -> Handler { return cmpxchg_pair<T, kEa>; });
}

template <class T>
void xadd_r(Core* c, const Insn* i) {
  const T a = get_reg<T>(c, i->reg);
  T sum = a;
  OpAdd::run(c, sum, get_reg<T>(c, i->src));
  set_reg<T>(c, i->src, a);
  set_reg<T>(c, i->reg, sum);
  NM_NEXT;
}
template <class T, Ea kEa, bool kSlow>
[[gnu::noinline]] void xadd_m(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  T before;
  if constexpr (kSlow) {
    before = slow_load_for_write<T>(c, i, va);
    T sum = before;
    const u16 flags_before = c->flags;
    OpAdd::run(c, sum, get_reg<T>(c, i->reg));
    const u16 flags_after = c->flags;
    c->flags = flags_before;
    slow_store<T>(c, i, va, sum);
    c->flags = flags_after;
  } else {
    u8* at;
    if (!tlb_hit<sizeof(T)>(c->tlb_write, va, at)) [[unlikely]] {
      return xadd_m<T, kEa, true>(c, i);
    }
    before = *reinterpret_cast<T*>(at);
    T sum = before;
    OpAdd::run(c, sum, get_reg<T>(c, i->reg));
    *reinterpret_cast<T*>(at) = sum;
  }
  set_reg<T>(c, i->reg, before);
  NM_NEXT;
}
Handler select_xadd(Decoding& d) {
  const unsigned bits = d.width(0);
  if (d.is_memory(0)) {
    d.memory(0);
    d.out.reg = d.gpr(1);
    return by_width(bits, [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return xadd_m<T, kEa, false>; });
    });
  }
  d.out.reg = d.gpr(0);
  d.out.src = d.gpr(1);
  return by_width(bits, []<class T>() -> Handler { return xadd_r<T>; });
}

}  // namespace

void register_atomics(SelectorTable& table) {
  table[ZYDIS_MNEMONIC_CMPXCHG] = select_cmpxchg;
  table[ZYDIS_MNEMONIC_CMPXCHG8B] = select_cmpxchg_pair<u32>;
  table[ZYDIS_MNEMONIC_CMPXCHG16B] = select_cmpxchg_pair<u64>;
  table[ZYDIS_MNEMONIC_XADD] = select_xadd;
}

}  // namespace node_mesh
