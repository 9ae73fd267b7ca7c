// BT BTS BTR BTC, BSF BSR, POPCNT. A bit offset in a register reaches beyond the memory operand;
// the flags that the architecture leaves undefined stay as they were (BT*) or are cleared (BSF,
// BSR).
#include <bit>

#include "cpu/decode.h"
#include "cpu/flags.h"

namespace node_mesh {
namespace {

enum class BitOp : u8 { test, set, reset, complement };

template <BitOp kOp, class T>
[[gnu::always_inline]] inline T apply_bit(T value, unsigned bit) {
  const T mask = static_cast<T>(T{1} << bit);
  if constexpr (kOp == BitOp::set) return static_cast<T>(value | mask);
  if constexpr (kOp == BitOp::reset) return static_cast<T>(value & ~mask);
  if constexpr (kOp == BitOp::complement) return static_cast<T>(value ^ mask);
  return value;
}
template <class T>
[[gnu::always_inline]] inline void set_carry(Core* c, T value, unsigned bit) {
  const auto carry = static_cast<u16>(((value >> bit) & 1) << 8);
  c->flags = static_cast<u16>((c->flags & ~status::cf) | carry);
}

template <BitOp kOp, class T, bool kImmediate>
void bit_r(Core* c, const Insn* i) {
  const T offset = kImmediate ? static_cast<T>(i->imm) : get_reg<T>(c, i->src);
  const auto bit = static_cast<unsigned>(offset & (sizeof(T) * 8 - 1));
  const T value = get_reg<T>(c, i->reg);
  set_carry(c, value, bit);
  if constexpr (kOp != BitOp::test) set_reg<T>(c, i->reg, apply_bit<kOp>(value, bit));
  NM_NEXT;
}

template <BitOp kOp, class T, Ea kEa, bool kImmediate, bool kSlow>
[[gnu::noinline]] void bit_m(Core* c, const Insn* i) {
  u64 va = effective_address<kEa>(c, i);
  unsigned bit;
  if constexpr (kImmediate) {
    bit = static_cast<unsigned>(i->imm) & (sizeof(T) * 8 - 1);
  } else {
    const auto offset = static_cast<s64>(static_cast<std::make_signed_t<T>>(get_reg<T>(c, i->reg)));
    constexpr unsigned shift = std::bit_width(sizeof(T) * 8) - 1;
    const u64 delta = static_cast<u64>((offset >> shift) * static_cast<s64>(sizeof(T)));
    va += delta;
    if (kEa == Ea::narrow) va = static_cast<u32>(va);
    bit = static_cast<unsigned>(offset & (sizeof(T) * 8 - 1));
  }
  if constexpr (kOp == BitOp::test) {
    NM_LOAD(T, value, va, (bit_m<kOp, T, kEa, kImmediate, true>));
    set_carry(c, value, bit);
  } else if constexpr (kSlow) {
    const T value = slow_load_for_write<T>(c, i, va);
    slow_store<T>(c, i, va, apply_bit<kOp>(value, bit));
    set_carry(c, value, bit);
  } else {
    u8* at;
    if (!tlb_hit<sizeof(T)>(c->tlb_write, va, at)) [[unlikely]] {
      return bit_m<kOp, T, kEa, kImmediate, true>(c, i);
    }
    const T value = *reinterpret_cast<T*>(at);
    *reinterpret_cast<T*>(at) = apply_bit<kOp>(value, bit);
    set_carry(c, value, bit);
  }
  NM_NEXT;
}

template <BitOp kOp>
Handler select_bit(Decoding& d) {
  const unsigned bits = d.width(0);
  const bool immediate = d.is_immediate(1);
  if (d.is_memory(0)) {
    d.memory(0);
    if (immediate) {
      d.out.imm = d.immediate(1);
    } else {
      d.out.reg = d.gpr(1);
    }
    return by_wide_width(bits, [&]<class T>() {
      return by_ea(d.ea, [&]<Ea kEa>() -> Handler {
        return immediate ? bit_m<kOp, T, kEa, true, false> : bit_m<kOp, T, kEa, false, false>;
      });
    });
  }
  d.out.reg = d.gpr(0);
  if (immediate) {
    d.out.imm = d.immediate(1);
  } else {
    d.out.src = d.gpr(1);
  }
  return by_wide_width(bits, [&]<class T>() -> Handler {
    return immediate ? bit_r<kOp, T, true> : bit_r<kOp, T, false>;
  });
}

enum class Scan : u8 { forward, reverse, population };

// A zero source leaves the destination of BSF and BSR alone, upper half included.
template <Scan kScan, class T>
[[gnu::always_inline]] inline void scan(Core* c, const Insn* i, T value) {
  if constexpr (kScan == Scan::population) {
    set_reg<T>(c, i->reg, static_cast<T>(std::popcount(value)));
    c->flags = value == 0 ? status::zf : u16{0};
  } else {
    c->flags = value == 0 ? status::zf : u16{0};
    if (value == 0) return;
    const auto at = static_cast<unsigned>(kScan == Scan::forward ? std::countr_zero(value)
                                                                 : std::bit_width(value) - 1);
    set_reg<T>(c, i->reg, static_cast<T>(at));
  }
}
template <Scan kScan, class T>
void scan_r(Core* c, const Insn* i) {
  scan<kScan, T>(c, i, get_reg<T>(c, i->src));
  NM_NEXT;
}
template <Scan kScan, class T, Ea kEa>
void scan_m(Core* c, const Insn* i) {
  scan<kScan, T>(c, i, load<T>(c, i, effective_address<kEa>(c, i)));
  NM_NEXT;
}
template <Scan kScan>
Handler select_scan(Decoding& d) {
  d.out.reg = d.gpr(0);
  if (d.is_memory(1)) {
    d.memory(1);
    return by_wide_width(d.width(0), [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return scan_m<kScan, T, kEa>; });
    });
  }
  d.out.src = d.gpr(1);
  return by_wide_width(d.width(0), []<class T>() -> Handler { return scan_r<kScan, T>; });
}

}  // namespace

void register_bits(SelectorTable& table) {
  table[ZYDIS_MNEMONIC_BT] = select_bit<BitOp::test>;
  table[ZYDIS_MNEMONIC_BTS] = select_bit<BitOp::set>;
  table[ZYDIS_MNEMONIC_BTR] = select_bit<BitOp::reset>;
  table[ZYDIS_MNEMONIC_BTC] = select_bit<BitOp::complement>;
  table[ZYDIS_MNEMONIC_BSF] = select_scan<Scan::forward>;
  table[ZYDIS_MNEMONIC_BSR] = select_scan<Scan::reverse>;
  table[ZYDIS_MNEMONIC_POPCNT] = select_scan<Scan::population>;
}

}  // namespace node_mesh
