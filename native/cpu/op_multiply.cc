// MUL IMUL DIV IDIV. What is undefined stays as it was: SF ZF AF PF after a multiplication, all
// flags after a division.
#include "cpu/decode.h"
#include "cpu/flags.h"

namespace node_mesh {
namespace {

template <class T>
struct Wide;
template <>
struct Wide<u8> {
  using U = u16;
  using S = s16;
  using Narrow = s8;
};
template <>
struct Wide<u16> {
  using U = u32;
  using S = s32;
  using Narrow = s16;
};
template <>
struct Wide<u32> {
  using U = u64;
  using S = s64;
  using Narrow = s32;
};
template <>
struct Wide<u64> {
  using U = u128;
  using S = s128;
  using Narrow = s64;
};

void set_multiply_flags(Core* c, bool overflow) {
  constexpr u16 both = status::cf | status::of;
  c->flags = static_cast<u16>(overflow ? c->flags | both : c->flags & ~both);
}

// RDX:RAX (or AX for bytes).
template <class T>
void set_wide_accumulator(Core* c, T low, T high) {
  if constexpr (sizeof(T) == 1) {
    set_reg<u16>(c, gpr_offset(rax), static_cast<u16>(low | (high << 8)));
  } else {
    set_reg<T>(c, gpr_offset(rax), low);
    set_reg<T>(c, gpr_offset(rdx), high);
  }
}

template <class T, bool kSigned>
void multiply_wide(Core* c, T operand) {
  using W = Wide<T>;
  const T a = get_reg<T>(c, gpr_offset(rax));
  T low, high;
  bool overflow;
  if constexpr (kSigned) {
    using S = typename W::S;
    using N = typename W::Narrow;
    const S product =
        static_cast<S>(static_cast<S>(static_cast<N>(a)) * static_cast<S>(static_cast<N>(operand)));
    low = static_cast<T>(product);
    high = static_cast<T>(product >> (sizeof(T) * 8));
    overflow = product != static_cast<S>(static_cast<N>(low));
  } else {
    using U = typename W::U;
    const U product = static_cast<U>(static_cast<U>(a) * static_cast<U>(operand));
    low = static_cast<T>(product);
    high = static_cast<T>(product >> (sizeof(T) * 8));
    overflow = high != 0;
  }
  set_wide_accumulator<T>(c, low, high);
  set_multiply_flags(c, overflow);
}

template <class T>
T multiply_low(Core* c, T a, T b) {
  using S = typename Wide<T>::S;
  using N = typename Wide<T>::Narrow;
  const S product =
      static_cast<S>(static_cast<S>(static_cast<N>(a)) * static_cast<S>(static_cast<N>(b)));
  const T low = static_cast<T>(product);
  set_multiply_flags(c, product != static_cast<S>(static_cast<N>(low)));
  return low;
}

template <class T, bool kSigned>
void divide(Core* c, const Insn* i, T divisor) {
  using U = typename Wide<T>::U;
  constexpr unsigned bits = sizeof(T) * 8;
  if (divisor == 0) raise(c, i, vector::de);
  U dividend;
  if constexpr (sizeof(T) == 1) {
    dividend = get_reg<u16>(c, gpr_offset(rax));
  } else {
    dividend = static_cast<U>((static_cast<U>(get_reg<T>(c, gpr_offset(rdx))) << bits) |
                              get_reg<T>(c, gpr_offset(rax)));
  }
  if constexpr (!kSigned) {
    const U quotient = static_cast<U>(dividend / divisor);
    if (static_cast<T>(quotient) != quotient) raise(c, i, vector::de);
    set_wide_accumulator<T>(c, static_cast<T>(quotient), static_cast<T>(dividend % divisor));
  } else {
    using S = typename Wide<T>::S;
    using N = typename Wide<T>::Narrow;
    const S top = static_cast<S>(dividend);
    const S by = static_cast<S>(static_cast<N>(divisor));
    // The one quotient that the wide type itself cannot hold.
    if (by == -1 && top == static_cast<S>(U{1} << (2 * bits - 1))) raise(c, i, vector::de);
    const S quotient = static_cast<S>(top / by);
    if (static_cast<S>(static_cast<N>(quotient)) != quotient) raise(c, i, vector::de);
    set_wide_accumulator<T>(c, static_cast<T>(quotient), static_cast<T>(top % by));
  }
}

enum class Kind : u8 { mul, imul, div, idiv };

template <class T, Kind kKind>
void run_wide(Core* c, const Insn* i, T operand) {
  if constexpr (kKind == Kind::mul) multiply_wide<T, false>(c, operand);
  if constexpr (kKind == Kind::imul) multiply_wide<T, true>(c, operand);
  if constexpr (kKind == Kind::div) divide<T, false>(c, i, operand);
  if constexpr (kKind == Kind::idiv) divide<T, true>(c, i, operand);
}

template <class T, Kind kKind>
void wide_r(Core* c, const Insn* i) {
  run_wide<T, kKind>(c, i, get_reg<T>(c, i->reg));
  NM_NEXT;
}

template <class T, Kind kKind, Ea kEa>
void wide_m(Core* c, const Insn* i) {
  run_wide<T, kKind>(c, i, load<T>(c, i, effective_address<kEa>(c, i)));
  NM_NEXT;
}

template <class T>
void imul_rr(Core* c, const Insn* i) {
  set_reg<T>(c, i->reg, multiply_low<T>(c, get_reg<T>(c, i->reg), get_reg<T>(c, i->src)));
  NM_NEXT;
}
template <class T>
void imul_rri(Core* c, const Insn* i) {
  set_reg<T>(c, i->reg, multiply_low<T>(c, get_reg<T>(c, i->src), static_cast<T>(i->imm)));
  NM_NEXT;
}
template <class T, Ea kEa, bool kImmediate>
void imul_rm(Core* c, const Insn* i) {
  const T operand = load<T>(c, i, effective_address<kEa>(c, i));
  const T other = kImmediate ? static_cast<T>(i->imm) : get_reg<T>(c, i->reg);
  set_reg<T>(c, i->reg, multiply_low<T>(c, operand, other));
  NM_NEXT;
}

template <Kind kKind>
Handler select_wide(Decoding& d) {
  if (d.is_memory(0)) {
    d.memory(0);
    return by_width(d.width(0), [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return wide_m<T, kKind, kEa>; });
    });
  }
  d.out.reg = d.gpr(0);
  return by_width(d.width(0), []<class T>() -> Handler { return wide_r<T, kKind>; });
}

Handler select_imul(Decoding& d) {
  if (d.operands.size() == 1) return select_wide<Kind::imul>(d);
  const unsigned bits = d.width(0);
  d.out.reg = d.gpr(0);
  const bool immediate = d.operands.size() == 3;
  if (d.is_memory(1)) {
    d.memory(1);
    if (immediate) d.out.imm = d.immediate(2);
    return by_wide_width(bits, [&]<class T>() {
      return by_ea(d.ea, [&]<Ea kEa>() -> Handler {
        return immediate ? imul_rm<T, kEa, true> : imul_rm<T, kEa, false>;
      });
    });
  }
  d.out.src = d.gpr(1);
  if (immediate) d.out.imm = d.immediate(2);
  return by_wide_width(bits,
                       [&]<class T>() -> Handler { return immediate ? imul_rri<T> : imul_rr<T>; });
}

}  // namespace

void register_multiply(SelectorTable& table) {
  table[ZYDIS_MNEMONIC_MUL] = select_wide<Kind::mul>;
  table[ZYDIS_MNEMONIC_IMUL] = select_imul;
  table[ZYDIS_MNEMONIC_DIV] = select_wide<Kind::div>;
  table[ZYDIS_MNEMONIC_IDIV] = select_wide<Kind::idiv>;
}

}  // namespace node_mesh
