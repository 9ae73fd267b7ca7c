// The vector moves that compilers use for copying memory as direct handlers: they
// are too frequent to go through stubs. None of them touches MXCSR.
#include "cpu/decode.h"
#include "cpu/fpu_access.h"
#include "cpu/stub/stub.h"
#include "cpu/xmm.h"

namespace node_mesh {
namespace {

struct Vector {
  u64 low, high;
};
Vector* xmm(Core* c, unsigned index) { return reinterpret_cast<Vector*>(c->fpu.xmm[index].data()); }

void mov_xx(Core* c, const Insn* i) {
  require_sse(c, i);
  *xmm(c, i->reg) = *xmm(c, i->src);
  NM_NEXT;
}
template <Ea kEa, bool kAligned, bool kSlow>
[[gnu::noinline]] void load_x(Core* c, const Insn* i) {
  require_sse(c, i);
  const u64 va = effective_address<kEa>(c, i);
  if (kAligned && (va & 15) != 0) [[unlikely]]
    raise_error(c, i, vector::gp, 0);
  NM_LOAD(Vector, value, va, (load_x<kEa, kAligned, true>));
  *xmm(c, i->reg) = value;
  NM_NEXT;
}
template <Ea kEa, bool kAligned, bool kSlow>
[[gnu::noinline]] void store_x(Core* c, const Insn* i) {
  require_sse(c, i);
  const u64 va = effective_address<kEa>(c, i);
  if (kAligned && (va & 15) != 0) [[unlikely]]
    raise_error(c, i, vector::gp, 0);
  NM_STORE(Vector, va, *xmm(c, i->reg), (store_x<kEa, kAligned, true>));
  NM_NEXT;
}
template <bool kAligned>
Handler select_move(Decoding& d) {
  if (is_xmm(d, 0) && is_xmm(d, 1)) {
    d.out.reg = static_cast<u8>(xmm_index(d.operands[0]));
    d.out.src = static_cast<u8>(xmm_index(d.operands[1]));
    return mov_xx;
  }
  if (is_xmm(d, 0) && d.is_memory(1)) {
    d.out.reg = static_cast<u8>(xmm_index(d.operands[0]));
    d.memory(1);
    return by_ea(d.ea, []<Ea kEa>() -> Handler { return load_x<kEa, kAligned, false>; });
  }
  if (!d.is_memory(0) || !is_xmm(d, 1)) return nullptr;
  d.out.reg = static_cast<u8>(xmm_index(d.operands[1]));
  d.memory(0);
  return by_ea(d.ea, []<Ea kEa>() -> Handler { return store_x<kEa, kAligned, false>; });
}

// MOVD and MOVQ between XMM and a general register or memory; loads clear the rest.
template <class T>
void mov_xr(Core* c, const Insn* i) {
  require_sse(c, i);
  *xmm(c, i->reg) = {get_reg<T>(c, i->src), 0};
  NM_NEXT;
}
template <class T>
void mov_rx(Core* c, const Insn* i) {
  require_sse(c, i);
  set_reg<T>(c, i->reg, static_cast<T>(xmm(c, i->src)->low));
  NM_NEXT;
}
void movq_xx(Core* c, const Insn* i) {
  require_sse(c, i);
  *xmm(c, i->reg) = {xmm(c, i->src)->low, 0};
  NM_NEXT;
}
template <class T, Ea kEa, bool kSlow>
[[gnu::noinline]] void load_low(Core* c, const Insn* i) {
  require_sse(c, i);
  NM_LOAD(T, value, effective_address<kEa>(c, i), (load_low<T, kEa, true>));
  *xmm(c, i->reg) = {value, 0};
  NM_NEXT;
}
template <class T, Ea kEa, bool kSlow>
[[gnu::noinline]] void store_low(Core* c, const Insn* i) {
  require_sse(c, i);
  NM_STORE(T, effective_address<kEa>(c, i), static_cast<T>(xmm(c, i->reg)->low),
           (store_low<T, kEa, true>));
  NM_NEXT;
}
template <class T>
Handler select_low_move(Decoding& d) {
  if (is_xmm(d, 0)) {
    d.out.reg = static_cast<u8>(xmm_index(d.operands[0]));
    if (is_xmm(d, 1)) {
      d.out.src = static_cast<u8>(xmm_index(d.operands[1]));
      return sizeof(T) == 8 ? movq_xx : nullptr;
    }
    if (d.is_memory(1)) {
      d.memory(1);
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return load_low<T, kEa, false>; });
    }
    if (!d.is_gpr(1)) return nullptr;
    d.out.src = d.gpr(1);
    return mov_xr<T>;
  }
  if (!is_xmm(d, 1)) return nullptr;
  if (d.is_memory(0)) {
    d.out.reg = static_cast<u8>(xmm_index(d.operands[1]));
    d.memory(0);
    return by_ea(d.ea, []<Ea kEa>() -> Handler { return store_low<T, kEa, false>; });
  }
  if (!d.is_gpr(0)) return nullptr;
  d.out.reg = d.gpr(0);
  d.out.src = static_cast<u8>(xmm_index(d.operands[1]));
  return mov_rx<T>;
}
// MOVSD and MOVSS from or to memory move the low part only, like MOVQ and MOVD.
template <class T, ZydisMnemonic>
Handler select_scalar_move(Decoding& d) {
  if (!d.is_memory(0) && !d.is_memory(1)) return nullptr;
  return select_low_move<T>(d);
}

Selector string_movsd;
Handler select_movsd(Decoding& d) {
  if (const Handler handler = string_movsd(d)) return handler;
  return select_scalar_move<u64, ZYDIS_MNEMONIC_MOVSD>(d);
}

}  // namespace

// Comes after the string instructions: MOVSD is both.
void register_sse_moves(SelectorTable& table) {
  for (const ZydisMnemonic m :
       {ZYDIS_MNEMONIC_MOVAPS, ZYDIS_MNEMONIC_MOVAPD, ZYDIS_MNEMONIC_MOVDQA}) {
    table[m] = select_move<true>;
  }
  for (const ZydisMnemonic m : {ZYDIS_MNEMONIC_MOVUPS, ZYDIS_MNEMONIC_MOVUPD, ZYDIS_MNEMONIC_MOVDQU,
                                ZYDIS_MNEMONIC_LDDQU}) {
    table[m] = select_move<false>;
  }
  for (const ZydisMnemonic m : {ZYDIS_MNEMONIC_MOVNTDQ, ZYDIS_MNEMONIC_MOVNTPS,
                                ZYDIS_MNEMONIC_MOVNTPD, ZYDIS_MNEMONIC_MOVNTDQA}) {
    table[m] = select_move<true>;
  }
  table[ZYDIS_MNEMONIC_MOVD] = select_low_move<u32>;
  table[ZYDIS_MNEMONIC_MOVQ] = select_low_move<u64>;
  string_movsd = table[ZYDIS_MNEMONIC_MOVSD];
  table[ZYDIS_MNEMONIC_MOVSD] = select_movsd;
  table[ZYDIS_MNEMONIC_MOVSS] = select_scalar_move<u32, ZYDIS_MNEMONIC_MOVSS>;
}

}  // namespace node_mesh
