// MOV MOVZX MOVSX MOVSXD LEA XCHG CMOVcc SETcc BSWAP MOVBE-less sign extensions, XLAT, NOP.
#include "cpu/decode.h"
#include "cpu/flags.h"

namespace node_mesh {
namespace {

void op_nop(Core* c, const Insn* i) { NM_NEXT; }

template <class T>
void mov_rr(Core* c, const Insn* i) {
  set_reg<T>(c, i->reg, get_reg<T>(c, i->src));
  NM_NEXT;
}
template <class T>
void mov_ri(Core* c, const Insn* i) {
  set_reg<T>(c, i->reg, static_cast<T>(i->imm));
  NM_NEXT;
}
template <class T, Ea kEa, bool kSlow>
[[gnu::noinline]] void mov_rm(Core* c, const Insn* i) {
  NM_LOAD(T, value, effective_address<kEa>(c, i), (mov_rm<T, kEa, true>));
  set_reg<T>(c, i->reg, value);
  NM_NEXT;
}
template <class T, Ea kEa, bool kSlow>
[[gnu::noinline]] void mov_mr(Core* c, const Insn* i) {
  NM_STORE(T, effective_address<kEa>(c, i), get_reg<T>(c, i->reg), (mov_mr<T, kEa, true>));
  NM_NEXT;
}
template <class T, Ea kEa, bool kSlow>
[[gnu::noinline]] void mov_mi(Core* c, const Insn* i) {
  NM_STORE(T, effective_address<kEa>(c, i), static_cast<T>(i->imm), (mov_mi<T, kEa, true>));
  NM_NEXT;
}
// MOV with a full 64-bit address: the address is the immediate.
template <class T, bool kStore>
void mov_absolute(Core* c, const Insn* i) {
  const u64 va = i->imm + get_reg<u64>(c, i->seg);
  if constexpr (kStore) {
    store<T>(c, i, va, get_reg<T>(c, i->reg));
  } else {
    set_reg<T>(c, i->reg, load<T>(c, i, va));
  }
  NM_NEXT;
}

Handler select_mov(Decoding& d) {
  const unsigned bits = d.width(0);
  if (d.is_memory(0)) {
    d.memory(0);
    if (d.is_immediate(1)) {
      d.out.imm = d.immediate(1);
      return by_width(bits, [&]<class T>() {
        return by_ea(d.ea, []<Ea kEa>() -> Handler { return mov_mi<T, kEa, false>; });
      });
    }
    if (!d.is_gpr(1)) return nullptr;
    d.out.reg = d.gpr(1);
    if (d.out.imm != 0) {
      return by_width(bits, []<class T>() -> Handler { return mov_absolute<T, true>; });
    }
    return by_width(bits, [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return mov_mr<T, kEa, false>; });
    });
  }
  if (!d.is_gpr(0)) return nullptr;
  d.out.reg = d.gpr(0);
  if (d.is_immediate(1)) {
    d.out.imm = d.immediate(1);
    return by_width(bits, []<class T>() -> Handler { return mov_ri<T>; });
  }
  if (d.is_memory(1)) {
    d.memory(1);
    if (d.out.imm != 0) {
      return by_width(bits, []<class T>() -> Handler { return mov_absolute<T, false>; });
    }
    return by_width(bits, [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return mov_rm<T, kEa, false>; });
    });
  }
  if (!d.is_gpr(1)) return nullptr;
  d.out.src = d.gpr(1);
  return by_width(bits, []<class T>() -> Handler { return mov_rr<T>; });
}

template <class To, class From>
void extend_r(Core* c, const Insn* i) {
  set_reg<To>(c, i->reg, static_cast<To>(get_reg<From>(c, i->src)));
  NM_NEXT;
}
template <class To, class From, Ea kEa, bool kSlow>
[[gnu::noinline]] void extend_m(Core* c, const Insn* i) {
  NM_LOAD(From, value, effective_address<kEa>(c, i), (extend_m<To, From, kEa, true>));
  set_reg<To>(c, i->reg, static_cast<To>(value));
  NM_NEXT;
}

// `From` decides the kind of extension: signed types extend the sign.
template <class From>
Handler select_extend_from(Decoding& d) {
  d.out.reg = d.gpr(0);
  if (d.is_memory(1)) {
    d.memory(1);
    return by_wide_width(d.width(0), [&]<class To>() {
      using Wanted = std::conditional_t<std::is_signed_v<From>, std::make_signed_t<To>, To>;
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return extend_m<Wanted, From, kEa, false>; });
    });
  }
  d.out.src = d.gpr(1);
  return by_wide_width(d.width(0), []<class To>() -> Handler {
    using Wanted = std::conditional_t<std::is_signed_v<From>, std::make_signed_t<To>, To>;
    return extend_r<Wanted, From>;
  });
}
Handler select_movzx(Decoding& d) {
  return d.width(1) == 8 ? select_extend_from<u8>(d) : select_extend_from<u16>(d);
}
Handler select_movsx(Decoding& d) {
  switch (d.width(1)) {
    case 8:
      return select_extend_from<s8>(d);
    case 16:
      return select_extend_from<s16>(d);
    default:
      return select_extend_from<s32>(d);
  }
}

template <class T, Ea kEa>
void op_lea(Core* c, const Insn* i) {
  set_reg<T>(c, i->reg, static_cast<T>(effective_offset<kEa>(c, i)));
  NM_NEXT;
}
Handler select_lea(Decoding& d) {
  d.out.reg = d.gpr(0);
  d.memory(1);
  d.out.seg = zero_offset;
  return by_wide_width(d.width(0), [&]<class T>() {
    return by_ea(d.ea, []<Ea kEa>() -> Handler { return op_lea<T, kEa>; });
  });
}

template <class T>
void xchg_rr(Core* c, const Insn* i) {
  const T a = get_reg<T>(c, i->reg), b = get_reg<T>(c, i->src);
  set_reg<T>(c, i->reg, b);
  set_reg<T>(c, i->src, a);
  NM_NEXT;
}
template <class T, Ea kEa, bool kSlow>
[[gnu::noinline]] void xchg_mr(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  const T value = get_reg<T>(c, i->reg);
  T before;
  if constexpr (kSlow) {
    before = slow_load_for_write<T>(c, i, va);
    slow_store<T>(c, i, va, value);
  } else {
    u8* at;
    if (!tlb_hit<sizeof(T)>(c->tlb_write, va, at)) [[unlikely]] {
      return xchg_mr<T, kEa, true>(c, i);
    }
    before = *reinterpret_cast<T*>(at);
    *reinterpret_cast<T*>(at) = value;
  }
  set_reg<T>(c, i->reg, before);
  NM_NEXT;
}
Handler select_xchg(Decoding& d) {
  if (d.is_memory(0) || d.is_memory(1)) {
    const unsigned at = d.is_memory(0) ? 0 : 1;
    d.memory(at);
    d.out.reg = d.gpr(1 - at);
    return by_width(d.width(0), [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return xchg_mr<T, kEa, false>; });
    });
  }
  d.out.reg = d.gpr(0);
  d.out.src = d.gpr(1);
  return by_width(d.width(0), []<class T>() -> Handler { return xchg_rr<T>; });
}

template <class T, unsigned kCondition>
void cmov_rr(Core* c, const Insn* i) {
  const T other = get_reg<T>(c, i->src);
  const T mine = get_reg<T>(c, i->reg);
  set_reg<T>(c, i->reg, condition<kCondition>(c->flags) ? other : mine);
  NM_NEXT;
}
// The memory operand is read (and may fault) whatever the condition says.
template <class T, Ea kEa, unsigned kCondition, bool kSlow>
[[gnu::noinline]] void cmov_rm(Core* c, const Insn* i) {
  NM_LOAD(T, other, effective_address<kEa>(c, i), (cmov_rm<T, kEa, kCondition, true>));
  const T mine = get_reg<T>(c, i->reg);
  set_reg<T>(c, i->reg, condition<kCondition>(c->flags) ? other : mine);
  NM_NEXT;
}
Handler select_cmov(Decoding& d) {
  d.out.reg = d.gpr(0);
  if (d.is_memory(1)) {
    d.memory(1);
    return by_wide_width(d.width(0), [&]<class T>() {
      return by_ea(d.ea, [&]<Ea kEa>() {
        return by_condition(d.zydis.opcode, []<unsigned kCondition>() -> Handler {
          return cmov_rm<T, kEa, kCondition, false>;
        });
      });
    });
  }
  d.out.src = d.gpr(1);
  return by_wide_width(d.width(0), [&]<class T>() {
    return by_condition(d.zydis.opcode,
                        []<unsigned kCondition>() -> Handler { return cmov_rr<T, kCondition>; });
  });
}

template <unsigned kCondition>
void setcc_r(Core* c, const Insn* i) {
  set_reg<u8>(c, i->reg, condition<kCondition>(c->flags));
  NM_NEXT;
}
template <Ea kEa, unsigned kCondition, bool kSlow>
[[gnu::noinline]] void setcc_m(Core* c, const Insn* i) {
  const u8 value = condition<kCondition>(c->flags);
  NM_STORE(u8, effective_address<kEa>(c, i), value, (setcc_m<kEa, kCondition, true>));
  NM_NEXT;
}
Handler select_setcc(Decoding& d) {
  if (d.is_memory(0)) {
    d.memory(0);
    return by_ea(d.ea, [&]<Ea kEa>() {
      return by_condition(d.zydis.opcode, []<unsigned kCondition>() -> Handler {
        return setcc_m<kEa, kCondition, false>;
      });
    });
  }
  d.out.reg = d.gpr(0);
  return by_condition(d.zydis.opcode,
                      []<unsigned kCondition>() -> Handler { return setcc_r<kCondition>; });
}

template <class T>
void op_bswap(Core* c, const Insn* i) {
  const T value = get_reg<T>(c, i->reg);
  if constexpr (sizeof(T) == 8) set_reg<T>(c, i->reg, __builtin_bswap64(value));
  if constexpr (sizeof(T) == 4) set_reg<T>(c, i->reg, __builtin_bswap32(value));
  if constexpr (sizeof(T) == 2) set_reg<T>(c, i->reg, T{0});  // undefined: what CPUs do
  NM_NEXT;
}
Handler select_bswap(Decoding& d) {
  d.out.reg = d.gpr(0);
  return by_wide_width(d.width(0), []<class T>() -> Handler { return op_bswap<T>; });
}

// CBW CWDE CDQE, and CWD CDQ CQO.
template <class To, class From>
void op_extend_accumulator(Core* c, const Insn* i) {
  set_reg<To>(c, gpr_offset(rax), static_cast<To>(get_reg<From>(c, gpr_offset(rax))));
  NM_NEXT;
}
template <class T>
void op_sign_to_rdx(Core* c, const Insn* i) {
  const T value = get_reg<T>(c, gpr_offset(rax));
  set_reg<T>(c, gpr_offset(rdx), static_cast<T>(value >> (sizeof(T) * 8 - 1)));
  NM_NEXT;
}
template <Handler kHandler>
Handler select_fixed(Decoding&) {
  return kHandler;
}

void op_xlat(Core* c, const Insn* i) {
  u64 at = c->gpr[rbx] + static_cast<u8>(c->gpr[rax]);
  if (i->extra & insn_address16) {
    at = static_cast<u16>(at);
  } else if (i->extra & insn_address32) {
    at = static_cast<u32>(at);
  }
  set_reg<u8>(c, gpr_offset(rax), load<u8>(c, i, at + get_reg<u64>(c, i->seg)));
  NM_NEXT;
}
Handler select_xlat(Decoding& d) {
  const auto attributes = d.zydis.attributes;
  d.out.seg = d.code64() ? zero_offset : seg_offset(seg_ds);
  if (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS) d.out.seg = seg_offset(seg_fs);
  if (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS) d.out.seg = seg_offset(seg_gs);
  if (d.zydis.address_width == 32) d.out.extra = insn_address32;
  if (d.zydis.address_width == 16) d.out.extra = insn_address16;
  return op_xlat;
}

void op_lahf(Core* c, const Insn* i) {
  set_reg<u8>(c, static_cast<u8>(gpr_offset(rax) + 1), static_cast<u8>(c->read_rflags()));
  NM_NEXT;
}
void op_sahf(Core* c, const Insn* i) {
  const u8 ah = get_reg<u8>(c, static_cast<u8>(gpr_offset(rax) + 1));
  c->flags = static_cast<u16>((c->flags & status::of) | ((ah & 0xd5) << 8));
  NM_NEXT;
}
void op_clc(Core* c, const Insn* i) {
  c->flags = static_cast<u16>(c->flags & ~status::cf);
  NM_NEXT;
}
void op_stc(Core* c, const Insn* i) {
  c->flags |= status::cf;
  NM_NEXT;
}
void op_cmc(Core* c, const Insn* i) {
  c->flags ^= status::cf;
  NM_NEXT;
}
void op_cld(Core* c, const Insn* i) {
  c->sysflags &= ~rflags::df;
  NM_NEXT;
}
void op_std(Core* c, const Insn* i) {
  c->sysflags |= rflags::df;
  NM_NEXT;
}

}  // namespace

void register_moves(SelectorTable& table) {
  table[ZYDIS_MNEMONIC_MOV] = select_mov;
  table[ZYDIS_MNEMONIC_MOVZX] = select_movzx;
  table[ZYDIS_MNEMONIC_MOVSX] = select_movsx;
  table[ZYDIS_MNEMONIC_MOVSXD] = select_movsx;
  table[ZYDIS_MNEMONIC_LEA] = select_lea;
  table[ZYDIS_MNEMONIC_XCHG] = select_xchg;
  table[ZYDIS_MNEMONIC_BSWAP] = select_bswap;
  table[ZYDIS_MNEMONIC_XLAT] = select_xlat;
  table[ZYDIS_MNEMONIC_CBW] = select_fixed<op_extend_accumulator<s16, s8>>;
  table[ZYDIS_MNEMONIC_CWDE] = select_fixed<op_extend_accumulator<s32, s16>>;
  table[ZYDIS_MNEMONIC_CDQE] = select_fixed<op_extend_accumulator<s64, s32>>;
  table[ZYDIS_MNEMONIC_CWD] = select_fixed<op_sign_to_rdx<s16>>;
  table[ZYDIS_MNEMONIC_CDQ] = select_fixed<op_sign_to_rdx<s32>>;
  table[ZYDIS_MNEMONIC_CQO] = select_fixed<op_sign_to_rdx<s64>>;
  table[ZYDIS_MNEMONIC_LAHF] = select_fixed<op_lahf>;
  table[ZYDIS_MNEMONIC_SAHF] = select_fixed<op_sahf>;
  table[ZYDIS_MNEMONIC_CLC] = select_fixed<op_clc>;
  table[ZYDIS_MNEMONIC_STC] = select_fixed<op_stc>;
  table[ZYDIS_MNEMONIC_CMC] = select_fixed<op_cmc>;
  table[ZYDIS_MNEMONIC_CLD] = select_fixed<op_cld>;
  table[ZYDIS_MNEMONIC_STD] = select_fixed<op_std>;
  for (const ZydisMnemonic nop :
       {ZYDIS_MNEMONIC_NOP, ZYDIS_MNEMONIC_PAUSE, ZYDIS_MNEMONIC_LFENCE, ZYDIS_MNEMONIC_SFENCE,
        ZYDIS_MNEMONIC_MFENCE, ZYDIS_MNEMONIC_PREFETCH, ZYDIS_MNEMONIC_PREFETCHNTA,
        ZYDIS_MNEMONIC_PREFETCHT0, ZYDIS_MNEMONIC_PREFETCHT1, ZYDIS_MNEMONIC_PREFETCHT2,
        ZYDIS_MNEMONIC_PREFETCHW, ZYDIS_MNEMONIC_PREFETCHWT1}) {
    table[nop] = select_fixed<op_nop>;
  }
  for (const ZydisMnemonic cmov :
       {ZYDIS_MNEMONIC_CMOVB, ZYDIS_MNEMONIC_CMOVBE, ZYDIS_MNEMONIC_CMOVL, ZYDIS_MNEMONIC_CMOVLE,
        ZYDIS_MNEMONIC_CMOVNB, ZYDIS_MNEMONIC_CMOVNBE, ZYDIS_MNEMONIC_CMOVNL,
        ZYDIS_MNEMONIC_CMOVNLE, ZYDIS_MNEMONIC_CMOVNO, ZYDIS_MNEMONIC_CMOVNP, ZYDIS_MNEMONIC_CMOVNS,
        ZYDIS_MNEMONIC_CMOVNZ, ZYDIS_MNEMONIC_CMOVO, ZYDIS_MNEMONIC_CMOVP, ZYDIS_MNEMONIC_CMOVS,
        ZYDIS_MNEMONIC_CMOVZ}) {
    table[cmov] = select_cmov;
  }
  for (const ZydisMnemonic set :
       {ZYDIS_MNEMONIC_SETB, ZYDIS_MNEMONIC_SETBE, ZYDIS_MNEMONIC_SETL, ZYDIS_MNEMONIC_SETLE,
        ZYDIS_MNEMONIC_SETNB, ZYDIS_MNEMONIC_SETNBE, ZYDIS_MNEMONIC_SETNL, ZYDIS_MNEMONIC_SETNLE,
        ZYDIS_MNEMONIC_SETNO, ZYDIS_MNEMONIC_SETNP, ZYDIS_MNEMONIC_SETNS, ZYDIS_MNEMONIC_SETNZ,
        ZYDIS_MNEMONIC_SETO, ZYDIS_MNEMONIC_SETP, ZYDIS_MNEMONIC_SETS, ZYDIS_MNEMONIC_SETZ}) {
    table[set] = select_setcc;
  }
}

}  // namespace node_mesh
