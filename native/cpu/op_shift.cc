// SHL SHR SAR ROL ROR RCL RCR SHLD SHRD. The host shifts; OF (undefined for counts other than one)
// and AF get the values that follow from the last one-bit step and zero.
#include "cpu/decode.h"
#include "cpu/flags.h"

namespace node_mesh {
namespace {

template <class T>
constexpr unsigned bits_of = sizeof(T) * 8;
template <class T>
constexpr unsigned count_mask = sizeof(T) == 8 ? 63 : 31;

template <class T>
u16 top_bit(T value) {
  return static_cast<u16>((value >> (bits_of<T> - 1)) & 1);
}
template <class T>
u16 second_bit(T value) {
  return static_cast<u16>((value >> (bits_of<T> - 2)) & 1);
}
inline u16 carry_bit(u16 flags) { return (flags >> 8) & 1; }

#define NM_HOST_SHIFT(text)            \
  u16 f = 0;                           \
  asm(text " %%cl, %[a]" NM_TAKE_FLAGS \
      : [a] "+q"(a), "=&a"(f)          \
      : "c"(static_cast<u8>(count))    \
      : "c"                            \
        "c")

// Each takes a count already masked and not zero.
struct Shl {
  template <class T>
  [[gnu::always_inline]] static void run(Core* c, T& a, unsigned count) {
    NM_HOST_SHIFT("shl");
    f = static_cast<u16>(f & (status::sf | status::zf | status::pf | status::cf));
    if (sizeof(T) < 4 && count > bits_of<T>) f = static_cast<u16>(f & ~status::cf);
    c->flags = static_cast<u16>(f | (top_bit(a) ^ carry_bit(f)));
  }
};
struct Shr {
  template <class T>
  [[gnu::always_inline]] static void run(Core* c, T& a, unsigned count) {
    const u16 overflow = count == 1 ? top_bit(a) : u16{0};
    NM_HOST_SHIFT("shr");
    f = static_cast<u16>(f & (status::sf | status::zf | status::pf | status::cf));
    if (sizeof(T) < 4 && count > bits_of<T>) f = static_cast<u16>(f & ~status::cf);
    c->flags = static_cast<u16>(f | overflow);
  }
};
struct Sar {
  template <class T>
  [[gnu::always_inline]] static void run(Core* c, T& a, unsigned count) {
    NM_HOST_SHIFT("sar");
    f = static_cast<u16>(f & (status::sf | status::zf | status::pf | status::cf));
    if (sizeof(T) < 4 && count > bits_of<T>) {
      f = static_cast<u16>((f & ~status::cf) | (f & status::sf ? status::cf : 0));
    }
    c->flags = f;
  }
};
inline void set_rotate_flags(Core* c, u16 carry, u16 overflow) {
  c->flags = static_cast<u16>((c->flags & ~(status::cf | status::of)) | (carry ? status::cf : 0) |
                              overflow);
}
struct Rol {
  template <class T>
  [[gnu::always_inline]] static void run(Core* c, T& a, unsigned count) {
    const unsigned n = count % bits_of<T>;
    if (n != 0) a = static_cast<T>((a << n) | (a >> (bits_of<T> - n)));
    const auto carry = static_cast<u16>(a & 1);
    set_rotate_flags(c, carry, top_bit(a) ^ carry);
  }
};
struct Ror {
  template <class T>
  [[gnu::always_inline]] static void run(Core* c, T& a, unsigned count) {
    const unsigned n = count % bits_of<T>;
    if (n != 0) a = static_cast<T>((a >> n) | (a << (bits_of<T> - n)));
    set_rotate_flags(c, top_bit(a), top_bit(a) ^ second_bit(a));
  }
};
// Through carry: a value of bits + 1.
struct Rcl {
  template <class T>
  static void run(Core* c, T& a, unsigned count) {
    u16 carry = carry_bit(c->flags);
    for (unsigned n = count % (bits_of<T> + 1); n != 0; --n) {
      const u16 out = top_bit(a);
      a = static_cast<T>((a << 1) | carry);
      carry = out;
    }
    set_rotate_flags(c, carry, top_bit(a) ^ carry);
  }
};
struct Rcr {
  template <class T>
  static void run(Core* c, T& a, unsigned count) {
    u16 carry = carry_bit(c->flags);
    for (unsigned n = count % (bits_of<T> + 1); n != 0; --n) {
      const auto out = static_cast<u16>(a & 1);
      a = static_cast<T>((a >> 1) | (static_cast<T>(carry) << (bits_of<T> - 1)));
      carry = out;
    }
    set_rotate_flags(c, carry, top_bit(a) ^ second_bit(a));
  }
};

template <class T, bool kByCl>
[[gnu::always_inline]] inline unsigned shift_count(const Core* c, const Insn* i) {
  if constexpr (kByCl) return static_cast<unsigned>(c->gpr[rcx]) & count_mask<T>;
  return static_cast<unsigned>(i->imm);
}

template <class Op, class T, bool kByCl>
void shift_r(Core* c, const Insn* i) {
  const unsigned count = shift_count<T, kByCl>(c, i);
  T value = get_reg<T>(c, i->reg);
  if (!kByCl || count != 0) Op::run(c, value, count);
  set_reg<T>(c, i->reg, value);
  NM_NEXT;
}

template <class Op, class T, Ea kEa, bool kByCl, bool kSlow>
[[gnu::noinline]] void shift_m(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  const unsigned count = shift_count<T, kByCl>(c, i);
  if constexpr (kSlow) {
    const u16 before = c->flags;
    T value = slow_load_for_write<T>(c, i, va);
    if (count != 0) Op::run(c, value, count);
    const u16 after = c->flags;
    c->flags = before;
    slow_store<T>(c, i, va, value);
    c->flags = after;
  } else {
    u8* at;
    if (!tlb_hit<sizeof(T)>(c->tlb_write, va, at)) [[unlikely]] {
      return shift_m<Op, T, kEa, kByCl, true>(c, i);
    }
    T value = *reinterpret_cast<T*>(at);
    if (count != 0) Op::run(c, value, count);
    *reinterpret_cast<T*>(at) = value;
  }
  NM_NEXT;
}

// A 32-bit shift by zero still clears the upper half.
template <class T>
void shift_by_zero(Core* c, const Insn* i) {
  set_reg<T>(c, i->reg, get_reg<T>(c, i->reg));
  NM_NEXT;
}

template <class Op>
Handler select_shift(Decoding& d) {
  const unsigned bits = d.width(0);
  const bool by_cl = d.is_register(1);
  if (!by_cl) d.out.imm = d.is_immediate(1) ? d.immediate(1) & (bits == 64 ? 63 : 31) : 1;
  if (d.is_memory(0)) {
    const u64 count = d.out.imm;
    d.memory(0);
    d.out.imm = count;
    return by_width(bits, [&]<class T>() {
      return by_ea(d.ea, [&]<Ea kEa>() -> Handler {
        return by_cl ? shift_m<Op, T, kEa, true, false> : shift_m<Op, T, kEa, false, false>;
      });
    });
  }
  d.out.reg = d.gpr(0);
  return by_width(bits, [&]<class T>() -> Handler {
    if (!by_cl && d.out.imm == 0) return shift_by_zero<T>;
    return by_cl ? shift_r<Op, T, true> : shift_r<Op, T, false>;
  });
}

// Counts beyond 16 for 16-bit operands have no defined result; here the source rotates on and CF is
// 0 (cpu/stub/undefined_flags.h).
template <class T, bool kLeft>
T double_shift(Core* c, T a, T b, unsigned count) {
  constexpr unsigned bits = bits_of<T>;
  T result;
  u16 carry;
  if constexpr (sizeof(T) == 2) {
    const u64 chain = kLeft ? u64{a} << 32 | u64{b} << 16 | b : u64{b} << 32 | u64{b} << 16 | a;
    result = static_cast<T>(kLeft ? chain >> (32 - count) : chain >> count);
    carry = static_cast<u16>((kLeft ? chain >> (48 - count) : chain >> (count - 1)) & 1);
    if (count > bits) carry = 0;
  } else if constexpr (kLeft) {
    carry = static_cast<u16>((a >> (bits - count)) & 1);
    result = static_cast<T>((a << count) | (b >> (bits - count)));
  } else {
    carry = static_cast<u16>((a >> (count - 1)) & 1);
    result = static_cast<T>((a >> count) | (b << (bits - count)));
  }
  const u16 overflow = kLeft ? static_cast<u16>(top_bit(result) ^ carry)
                             : static_cast<u16>(top_bit(result) ^ second_bit(result));
  c->flags = static_cast<u16>(flags_of_result(result) | (carry ? status::cf : 0) | overflow);
  return result;
}

template <class T, bool kLeft, bool kByCl>
void double_shift_r(Core* c, const Insn* i) {
  const unsigned count = shift_count<T, kByCl>(c, i);
  T value = get_reg<T>(c, i->reg);
  if (count != 0) value = double_shift<T, kLeft>(c, value, get_reg<T>(c, i->src), count);
  set_reg<T>(c, i->reg, value);
  NM_NEXT;
}

template <class T, Ea kEa, bool kLeft, bool kByCl>
void double_shift_m(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  const unsigned count = shift_count<T, kByCl>(c, i);
  T value = slow_load_for_write<T>(c, i, va);
  const u16 before = c->flags;
  if (count != 0) value = double_shift<T, kLeft>(c, value, get_reg<T>(c, i->reg), count);
  const u16 after = c->flags;
  c->flags = before;
  slow_store<T>(c, i, va, value);
  c->flags = after;
  NM_NEXT;
}

template <bool kLeft>
Handler select_double_shift(Decoding& d) {
  const unsigned bits = d.width(0);
  const bool by_cl = d.is_register(2);
  const u64 count = by_cl ? 0 : d.immediate(2) & (bits == 64 ? 63 : 31);
  if (d.is_memory(0)) {
    d.memory(0);
    d.out.imm = count;
    d.out.reg = d.gpr(1);
    return by_wide_width(bits, [&]<class T>() {
      return by_ea(d.ea, [&]<Ea kEa>() -> Handler {
        return by_cl ? double_shift_m<T, kEa, kLeft, true> : double_shift_m<T, kEa, kLeft, false>;
      });
    });
  }
  d.out.imm = count;
  d.out.reg = d.gpr(0);
  d.out.src = d.gpr(1);
  return by_wide_width(bits, [&]<class T>() -> Handler {
    return by_cl ? double_shift_r<T, kLeft, true> : double_shift_r<T, kLeft, false>;
  });
}

}  // namespace

void register_shifts(SelectorTable& table) {
  table[ZYDIS_MNEMONIC_SHL] = select_shift<Shl>;
  table[ZYDIS_MNEMONIC_SHR] = select_shift<Shr>;
  table[ZYDIS_MNEMONIC_SAR] = select_shift<Sar>;
  table[ZYDIS_MNEMONIC_ROL] = select_shift<Rol>;
  table[ZYDIS_MNEMONIC_ROR] = select_shift<Ror>;
  table[ZYDIS_MNEMONIC_RCL] = select_shift<Rcl>;
  table[ZYDIS_MNEMONIC_RCR] = select_shift<Rcr>;
  table[ZYDIS_MNEMONIC_SHLD] = select_double_shift<true>;
  table[ZYDIS_MNEMONIC_SHRD] = select_double_shift<false>;
}

}  // namespace node_mesh
