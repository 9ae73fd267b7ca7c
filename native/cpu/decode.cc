#include "cpu/decode.h"

#include <cstring>

#include "cpu/threading.h"

namespace node_mesh {
namespace {

constexpr u64 instruction_bytes_max = 15;

const SelectorTable& selector_table() {
  static const SelectorTable table = [] {
    SelectorTable t{};
    register_arithmetic(t);
    register_shifts(t);
    register_multiply(t);
    register_moves(t);
    register_stack(t);
    register_strings(t);
    register_bits(t);
    register_control(t);
    register_far_control(t);
    register_atomics(t);
    register_system(t);
    register_segments(t);
    register_msr(t);
    register_io(t);
    register_fpu(t);
    register_sse_integer(t);
    register_sse_moves(t);
    register_decimal(t);
    return t;
  }();
  return table;
}

unsigned segment_index(ZydisRegister reg) {
  switch (reg) {
    case ZYDIS_REGISTER_ES:
      return seg_es;
    case ZYDIS_REGISTER_CS:
      return seg_cs;
    case ZYDIS_REGISTER_SS:
      return seg_ss;
    case ZYDIS_REGISTER_FS:
      return seg_fs;
    case ZYDIS_REGISTER_GS:
      return seg_gs;
    default:
      return seg_ds;
  }
}

}  // namespace

u8 gpr_operand_offset(ZydisRegister reg) {
  const auto id = [reg](ZydisRegister first) { return static_cast<unsigned>(reg - first); };
  if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15) {
    return gpr_offset(id(ZYDIS_REGISTER_RAX));
  }
  if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D) {
    return gpr_offset(id(ZYDIS_REGISTER_EAX));
  }
  if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W) {
    return gpr_offset(id(ZYDIS_REGISTER_AX));
  }
  if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B) {
    return gpr_offset(id(ZYDIS_REGISTER_SPL) + 4);
  }
  if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
    return static_cast<u8>(gpr_offset(id(ZYDIS_REGISTER_AH)) + 1);
  }
  if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL) {
    return gpr_offset(id(ZYDIS_REGISTER_AL));
  }
  return zero_offset;
}

bool Decoding::is_gpr(unsigned index) const {
  return is_register(index) && gpr_operand_offset(operands[index].reg.value) != zero_offset;
}

u8 Decoding::gpr(unsigned index) const { return gpr_operand_offset(operands[index].reg.value); }

void Decoding::memory(const ZydisDecodedOperand& operand) {
  auto mem = operand.mem;
  // A SIB base of 5 with mod 0 is a bare displacement; with REX.B and an address-size prefix the
  // decoder takes it for R13D without one.
  if (zydis.raw.sib.offset != 0 && zydis.raw.modrm.mod == 0 && zydis.raw.sib.base == 5 &&
      mem.base != ZYDIS_REGISTER_NONE && operand.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
    mem.base = ZYDIS_REGISTER_NONE;
    mem.disp.has_displacement = true;
    mem.disp.value = zydis.raw.disp.value;
    if (mem.segment == ZYDIS_REGISTER_SS) mem.segment = ZYDIS_REGISTER_DS;
  }
  s64 disp = mem.disp.has_displacement ? mem.disp.value : 0;
  out.base = out.index = out.seg = zero_offset;
  out.scale = 0;
  if (mem.segment == ZYDIS_REGISTER_SS) out.extra |= insn_stack_segment;
  if (mem.base == ZYDIS_REGISTER_RIP || mem.base == ZYDIS_REGISTER_EIP) {
    out.base = page_va_offset;
    disp += out.offset + out.length;
  } else if (mem.base != ZYDIS_REGISTER_NONE) {
    out.base = gpr_operand_offset(mem.base);
  }
  if (mem.index != ZYDIS_REGISTER_NONE) {
    out.index = gpr_operand_offset(mem.index);
    out.scale = mem.scale == 8 ? 3 : mem.scale == 4 ? 2 : mem.scale == 2 ? 1 : 0;
  }
  const unsigned segment = segment_index(mem.segment);
  if (!code64() || segment >= seg_fs) out.seg = seg_offset(segment);
  if (disp > INT32_MAX && out.index == zero_offset) {
    out.index = two_gib_offset;  // RIP-relative near the end of the reach, counted from the page
    disp -= s64{1} << 31;
  }
  if (disp < INT32_MIN || disp > INT32_MAX) {  // MOFFS with 64 bits
    out.imm = static_cast<u64>(disp);
    disp = 0;
  }
  out.disp = static_cast<s32>(disp);
  if (zydis.address_width != 64) {
    ea = Ea::narrow;
    if (zydis.address_width == 16) out.extra |= insn_address16;
  } else if (out.index != zero_offset || out.seg != zero_offset) {
    ea = Ea::full;
  } else {
    ea = Ea::base;
  }
}

Decoder::Decoder() : selectors_(selector_table()) {
  ZydisDecoderInit(&decoders_[0], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  ZydisDecoderInit(&decoders_[1], ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
  ZydisDecoderInit(&decoders_[2], ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16);
  for (ZydisDecoder& decoder : decoders_) {
    // What the CPU model does not have decodes as its plain older self.
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_LZCNT, ZYAN_FALSE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_TZCNT, ZYAN_FALSE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
  }
}

DecodedBlock& Decoder::decode(const u8* page, u64 offset, CodeMode mode, bool single,
                              const u8* next_page) {
  DecodedBlock& block = block_;
  block.count = 0;
  block.bytes = 0;
  block.needs_next_page = false;
  u64 at = offset;
  Outcome outcome = Outcome::next;
  u8 crossing[2 * instruction_bytes_max];
  while (block.count < (single ? 1u : block_insns_max) && at < page_bytes) {
    Insn& out = block.insns[block.count];
    out = Insn{};
    out.offset = static_cast<u16>(at);
    std::span<const u8> bytes{page + at, std::min(instruction_bytes_max, page_bytes - at)};
    if (next_page != nullptr) {
      std::memcpy(crossing, bytes.data(), bytes.size());
      std::memcpy(crossing + bytes.size(), next_page, instruction_bytes_max - bytes.size());
      bytes = {crossing, instruction_bytes_max};
    }
    const bool page_end = bytes.size() < instruction_bytes_max;
    outcome = decode_one(bytes, page_end, mode, out);
    if (outcome == Outcome::crosses) break;
    if (!single && block.count != 0 && condition_ != Decoding::no_condition) {
      Insn& before = block.insns[block.count - 1u];
      if (const Handler fused = fused_handler(before.fn, condition_)) before.fn = fused;
    }
    ++block.count;
    at += out.length;
    if (outcome == Outcome::last || next_page != nullptr) break;
  }
  if (block.count == 0) {
    block.needs_next_page = true;
    return block;
  }
  block.bytes = at - offset;
  Insn& end = block.insns[block.count];
  end = Insn{};
  end.fn = single ? op_end_of_single : op_end_of_block;
  end.disp = static_cast<s32>(at);
  block.slots = static_cast<u16>(block.count + 1);
  for (unsigned k = 0; k < block.count; ++k) {
    block.insns[k].left = static_cast<u8>(block.count - k);
  }
  return block;
}

Decoder::Outcome Decoder::decode_one(std::span<const u8> bytes, bool page_end, CodeMode mode,
                                     Insn& out) {
  condition_ = Decoding::no_condition;
  ZydisDecoderContext context;
  ZydisDecodedInstruction zydis;
  const ZydisDecoder& decoder = decoders_[static_cast<unsigned>(mode)];
  const ZyanStatus status =
      ZydisDecoderDecodeInstruction(&decoder, &context, bytes.data(), bytes.size(), &zydis);
  if (!ZYAN_SUCCESS(status)) {
    if (status == ZYDIS_STATUS_NO_MORE_DATA && page_end) return Outcome::crosses;
    const bool too_long =
        status == ZYDIS_STATUS_NO_MORE_DATA || status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
    out.fn = too_long ? op_too_long : op_undefined;
    out.length = static_cast<u8>(bytes.size());  // all of them may matter
    return Outcome::last;
  }
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  if (!ZYAN_SUCCESS(
          ZydisDecoderDecodeOperands(&decoder, &context, &zydis, operands, zydis.operand_count))) {
    out.fn = op_undefined;
    out.length = zydis.length;
    return Outcome::last;
  }
  out.length = zydis.length;
  const std::span<const ZydisDecodedOperand> all(operands, zydis.operand_count);
  Decoding d{zydis, all.first(zydis.operand_count_visible), all, bytes.first(zydis.length), mode,
             out};
  out.fn = select(d);
  condition_ = d.branch_condition;
  return d.ends_block ? Outcome::last : Outcome::next;
}

Handler Decoder::select(Decoding& d) {
  if (const Selector selector = selectors_[d.zydis.mnemonic]) {
    if (const Handler handler = selector(d)) return handler;
    d.out.extra = 0;
  }
  if (const Handler handler = select_stub(d, stubs_)) return handler;
  d.ends_block = true;
  return op_undefined;
}

}  // namespace node_mesh
