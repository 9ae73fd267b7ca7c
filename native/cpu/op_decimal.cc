// What exists outside 64-bit mode only: AAA AAS AAM AAD DAA DAS, BOUND, SALC.
#include "cpu/decode.h"
#include "cpu/flags.h"

namespace node_mesh {
namespace {

constexpr u8 al = gpr_offset(rax), ah = static_cast<u8>(gpr_offset(rax) + 1);

template <bool kSubtract>
void op_ascii_adjust(Core* c, const Insn* i) {
  const bool adjust = (get_reg<u8>(c, al) & 15) > 9 || (c->flags & status::af);
  if (adjust) {
    const u16 ax = get_reg<u16>(c, al);
    set_reg<u16>(c, al, static_cast<u16>(kSubtract ? ax - 0x106 : ax + 0x106));
  }
  constexpr u16 both = status::af | status::cf;
  const u8 value = get_reg<u8>(c, al) & 15;
  set_reg<u8>(c, al, value);
  c->flags = static_cast<u16>((c->flags & ~both) | (adjust ? both : 0));
  NM_NEXT;
}

template <bool kSubtract>
void op_decimal_adjust(Core* c, const Insn* i) {
  const u8 before = get_reg<u8>(c, al);
  u8 value = before;
  bool carry = false;
  const bool carry_before = c->flags & status::cf;
  const bool low = (before & 15) > 9 || (c->flags & status::af);
  if (low) {
    carry = carry_before || (kSubtract ? before < 6 : before > 0xf9);
    value = static_cast<u8>(kSubtract ? value - 6 : value + 6);
  }
  if (before > 0x99 || carry_before) {
    value = static_cast<u8>(kSubtract ? value - 0x60 : value + 0x60);
    carry = true;
  }
  set_reg<u8>(c, al, value);
  c->flags =
      static_cast<u16>(flags_of_result(value) | (low ? status::af : 0) | (carry ? status::cf : 0));
  NM_NEXT;
}

void op_aam(Core* c, const Insn* i) {
  const auto base = static_cast<u8>(i->imm);
  if (base == 0) raise(c, i, vector::de);
  const u8 value = get_reg<u8>(c, al);
  set_reg<u8>(c, ah, value / base);
  set_reg<u8>(c, al, value % base);
  c->flags = flags_of_result(get_reg<u8>(c, al));
  NM_NEXT;
}
void op_aad(Core* c, const Insn* i) {
  const auto value =
      static_cast<u8>(get_reg<u8>(c, al) + get_reg<u8>(c, ah) * static_cast<u8>(i->imm));
  set_reg<u16>(c, al, value);
  c->flags = flags_of_result(value);
  NM_NEXT;
}
void op_salc(Core* c, const Insn* i) {
  set_reg<u8>(c, al, c->flags & status::cf ? u8{0xff} : u8{0});
  NM_NEXT;
}

template <class T, Ea kEa>
void op_bound(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  const T lower = static_cast<T>(load<std::make_unsigned_t<T>>(c, i, va));
  const T upper = static_cast<T>(load<std::make_unsigned_t<T>>(c, i, va + sizeof(T)));
  const T index = get_reg<T>(c, i->reg);
  if (index < lower || index > upper) raise(c, i, vector::br);
  NM_NEXT;
}

template <Handler kHandler>
Handler select_legacy(Decoding& d) {
  if (d.code64()) return nullptr;
  d.out.imm = d.is_immediate(0) ? d.immediate(0) : 10;
  return kHandler;
}
Handler select_bound(Decoding& d) {
  if (d.code64() || !d.is_memory(1)) return nullptr;
  d.out.reg = d.gpr(0);
  d.memory(1);
  const bool word = d.zydis.operand_width == 16;
  return by_ea(d.ea,
               [&]<Ea kEa>() -> Handler { return word ? op_bound<s16, kEa> : op_bound<s32, kEa>; });
}

}  // namespace

void register_decimal(SelectorTable& table) {
  table[ZYDIS_MNEMONIC_AAA] = select_legacy<op_ascii_adjust<false>>;
  table[ZYDIS_MNEMONIC_AAS] = select_legacy<op_ascii_adjust<true>>;
  table[ZYDIS_MNEMONIC_DAA] = select_legacy<op_decimal_adjust<false>>;
  table[ZYDIS_MNEMONIC_DAS] = select_legacy<op_decimal_adjust<true>>;
  table[ZYDIS_MNEMONIC_AAM] = select_legacy<op_aam>;
  table[ZYDIS_MNEMONIC_AAD] = select_legacy<op_aad>;
  table[ZYDIS_MNEMONIC_SALC] = select_legacy<op_salc>;
  table[ZYDIS_MNEMONIC_BOUND] = select_bound;
}

}  // namespace node_mesh
