// From code bytes to decoded blocks. Zydis decodes; a selector per mnemonic then picks the handler
// and fills the operands in. Selectors live beside their handlers, one file per instruction group,
// and are found through a table by mnemonic.
#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <memory>
#include <span>

#include "cpu/access.h"
#include "cpu/core.h"
#include "cpu/insn.h"
#include "cpu/stub/stub.h"

namespace node_mesh {

// One instruction on its way to an Insn.
struct Decoding {
  const ZydisDecodedInstruction& zydis;
  std::span<const ZydisDecodedOperand> operands;      // the visible ones
  std::span<const ZydisDecodedOperand> all_operands;  // the hidden ones too
  std::span<const u8> bytes;
  CodeMode mode;
  Insn& out;
  bool ends_block = false;              // nothing may follow in the same block
  Ea ea = Ea::base;                     // form of the memory operand, after memory()
  int branch_condition = no_condition;  // of a conditional branch inside the page

  static constexpr int no_condition = -1;

  bool code64() const { return mode == CodeMode::code64; }
  bool has_lock() const { return zydis.attributes & ZYDIS_ATTRIB_HAS_LOCK; }
  bool is_register(unsigned index) const {
    return index < operands.size() && operands[index].type == ZYDIS_OPERAND_TYPE_REGISTER;
  }
  bool is_memory(unsigned index) const {
    return index < operands.size() && operands[index].type == ZYDIS_OPERAND_TYPE_MEMORY;
  }
  bool is_immediate(unsigned index) const {
    return index < operands.size() && operands[index].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
  }
  bool is_gpr(unsigned index) const;
  unsigned width(unsigned index) const { return operands[index].size; }  // bits
  u8 gpr(unsigned index) const;                                          // operand offset
  u64 immediate(unsigned index) const { return operands[index].imm.value.u; }
  // Fills base, index, scale, segment and displacement of the memory operand.
  void memory(unsigned index) { memory(operands[index]); }
  void memory(const ZydisDecodedOperand& operand);
  // Distance of a relative branch's target from the page's start.
  s64 target() const { return s64{out.offset} + out.length + operands[0].imm.value.s; }
  bool target_in_page() const {
    const s64 at = target();
    return at >= 0 && at < static_cast<s64>(page_bytes);
  }
};

u8 gpr_operand_offset(ZydisRegister reg);

// Null: this group has no handler for this form.
using Selector = Handler (*)(Decoding&);
using SelectorTable = std::array<Selector, ZYDIS_MNEMONIC_MAX_VALUE + 1>;

void register_arithmetic(SelectorTable& table);
void register_shifts(SelectorTable& table);
void register_multiply(SelectorTable& table);
void register_moves(SelectorTable& table);
void register_stack(SelectorTable& table);
void register_strings(SelectorTable& table);
void register_bits(SelectorTable& table);
void register_control(SelectorTable& table);
void register_far_control(SelectorTable& table);
void register_atomics(SelectorTable& table);
void register_system(SelectorTable& table);
void register_segments(SelectorTable& table);
void register_msr(SelectorTable& table);
void register_io(SelectorTable& table);
void register_fpu(SelectorTable& table);
void register_sse_integer(SelectorTable& table);
void register_sse_moves(SelectorTable& table);
void register_decimal(SelectorTable& table);

// Handlers that the decoder itself places.
void op_undefined(Core* c, const Insn* i);      // #UD
void op_too_long(Core* c, const Insn* i);       // more than 15 bytes: #GP
void op_end_of_block(Core* c, const Insn* i);   // not an instruction: on to the next block
void op_end_of_single(Core* c, const Insn* i);  // not an instruction: back to the run loop
// For instructions without a handler of their own.
Handler select_stub(Decoding& d, StubCache& stubs);

// Arithmetic and the conditional branch behind it as one handler, that of the first; null if there
// is none. The branch keeps its own Insn, so counts and faults stay as they are.
Handler fused_handler(Handler first, int condition);

// Picking template instances.
template <class F>
Handler by_width(unsigned bits, F pick) {
  switch (bits) {
    case 8:
      return pick.template operator()<u8>();
    case 16:
      return pick.template operator()<u16>();
    case 32:
      return pick.template operator()<u32>();
    case 64:
      return pick.template operator()<u64>();
    default:
      return nullptr;
  }
}
template <class F>
Handler by_wide_width(unsigned bits, F pick) {  // no byte form
  switch (bits) {
    case 16:
      return pick.template operator()<u16>();
    case 32:
      return pick.template operator()<u32>();
    case 64:
      return pick.template operator()<u64>();
    default:
      return nullptr;
  }
}
template <class F>
Handler by_ea(Ea ea, F pick) {
  switch (ea) {
    case Ea::base:
      return pick.template operator()<Ea::base>();
    case Ea::full:
      return pick.template operator()<Ea::full>();
    default:
      return pick.template operator()<Ea::narrow>();
  }
}
template <class F, unsigned... kConditions>
Handler by_condition_of(unsigned value, F pick, std::integer_sequence<unsigned, kConditions...>) {
  Handler found = nullptr;
  ((value == kConditions ? void(found = pick.template operator()<kConditions>()) : void()), ...);
  return found;
}
template <class F>
Handler by_condition(unsigned value, F pick) {
  return by_condition_of(value & 15, pick, std::make_integer_sequence<unsigned, 16>());
}

inline constexpr unsigned block_insns_max = 48;

struct DecodedBlock {
  std::array<Insn, block_insns_max + 1> insns;
  u16 slots = 0;
  u16 count = 0;
  u64 bytes = 0;                 // code bytes that the block depends on
  bool needs_next_page = false;  // the first instruction reaches into the next page
};

class Decoder {
 public:
  Decoder();
  // Decodes from `offset` of `page`. `next_page` is given when the first instruction is known to
  // cross into it. The result is valid until the next call.
  bool stubs_full() const { return stubs_.full(); }
  void clear_stubs() { stubs_.clear(); }
  DecodedBlock& decode(const u8* page, u64 offset, CodeMode mode, bool single, const u8* next_page);

 private:
  enum class Outcome : u8 { next, last, crosses };
  Outcome decode_one(std::span<const u8> bytes, bool page_end, CodeMode mode, Insn& out);
  Handler select(Decoding& d);

  ZydisDecoder decoders_[3];
  const SelectorTable& selectors_;
  StubCache stubs_;
  DecodedBlock block_;
  int condition_ = Decoding::no_condition;  // of the instruction decoded last
};

}  // namespace node_mesh
