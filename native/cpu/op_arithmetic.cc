// ADD ADC SUB SBB AND OR XOR CMP TEST, INC DEC NEG NOT.
#include "cpu/alu_handlers.h"
#include "cpu/decode.h"
#include "cpu/flags.h"

namespace node_mesh {
namespace {

// XOR reg,reg and SUB reg,reg with itself: zero and fixed flags.
void zero_register(Core* c, const Insn* i) {
  *reinterpret_cast<u64*>(reinterpret_cast<u8*>(c) + i->reg) = 0;
  c->flags = status::zf | status::pf;
  NM_NEXT;
}

template <class Op>
Handler select_alu(Decoding& d) {
  const unsigned bits = d.width(0);
  if (d.is_memory(0)) {
    d.memory(0);
    if (d.is_immediate(1)) {
      d.out.imm = d.immediate(1);
      return by_width(bits, [&]<class T>() {
        return by_ea(d.ea, []<Ea kEa>() -> Handler { return alu_m<Op, T, kEa, true, false>; });
      });
    }
    d.out.reg = d.gpr(1);
    return by_width(bits, [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return alu_m<Op, T, kEa, false, false>; });
    });
  }
  d.out.reg = d.gpr(0);
  if (d.is_immediate(1)) {
    d.out.imm = d.immediate(1);
    return by_width(bits, []<class T>() -> Handler { return alu_ri<Op, T>; });
  }
  if (d.is_memory(1)) {
    d.memory(1);
    return by_width(bits, [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return alu_rm<Op, T, kEa, false>; });
    });
  }
  d.out.src = d.gpr(1);
  if constexpr (std::is_same_v<Op, OpXor> || std::is_same_v<Op, OpSub>) {
    if (d.out.reg == d.out.src && bits >= 32) return zero_register;
  }
  return by_width(bits, []<class T>() -> Handler { return alu_rr<Op, T>; });
}

template <class Op>
Handler select_unary(Decoding& d) {
  if (d.is_memory(0)) {
    d.memory(0);
    return by_width(d.width(0), [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return unary_m<Op, T, kEa, false>; });
    });
  }
  d.out.reg = d.gpr(0);
  return by_width(d.width(0), []<class T>() -> Handler { return unary_r<Op, T>; });
}

}  // namespace

void register_arithmetic(SelectorTable& table) {
  table[ZYDIS_MNEMONIC_ADD] = select_alu<OpAdd>;
  table[ZYDIS_MNEMONIC_ADC] = select_alu<OpAdc>;
  table[ZYDIS_MNEMONIC_SUB] = select_alu<OpSub>;
  table[ZYDIS_MNEMONIC_SBB] = select_alu<OpSbb>;
  table[ZYDIS_MNEMONIC_AND] = select_alu<OpAnd>;
  table[ZYDIS_MNEMONIC_OR] = select_alu<OpOr>;
  table[ZYDIS_MNEMONIC_XOR] = select_alu<OpXor>;
  table[ZYDIS_MNEMONIC_CMP] = select_alu<OpCmp>;
  table[ZYDIS_MNEMONIC_TEST] = select_alu<OpTest>;
  table[ZYDIS_MNEMONIC_INC] = select_unary<OpInc>;
  table[ZYDIS_MNEMONIC_DEC] = select_unary<OpDec>;
  table[ZYDIS_MNEMONIC_NEG] = select_unary<OpNeg>;
  table[ZYDIS_MNEMONIC_NOT] = select_unary<OpNot>;
}

}  // namespace node_mesh
