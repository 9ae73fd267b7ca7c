#include "cpu/stub/stub_policy.h"

namespace node_mesh {
namespace {

// Fully defined but for flags that one mask leaves alone.
bool is_plain_integer(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CDQE:
    case ZYDIS_MNEMONIC_CLC:
    case ZYDIS_MNEMONIC_CMC:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_CMPXCHG16B:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CQO:
    case ZYDIS_MNEMONIC_CRC32:
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVNTI:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:
    case ZYDIS_MNEMONIC_POPCNT:
    case ZYDIS_MNEMONIC_SAHF:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_STC:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_XADD:
    case ZYDIS_MNEMONIC_XCHG:
      return true;
    default:
      return false;
  }
}

std::optional<StubKind> integer_kind(const ZydisDecodedInstruction& instruction) {
  if (is_plain_integer(instruction.mnemonic)) return StubKind::plain;
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_BSWAP:  // its 16-bit form is undefined
      if (instruction.operand_width == 16) return std::nullopt;
      return StubKind::plain;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
      // With a memory operand the bit offset moves the address.
      if (instruction.raw.modrm.mod != 3) return std::nullopt;
      return StubKind::plain;
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_XOR:
      return StubKind::logic;
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
      return StubKind::shift;
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
      return StubKind::double_shift;
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_TZCNT:
      return StubKind::bit_scan;
    default:
      break;
  }
  switch (instruction.meta.category) {
    case ZYDIS_CATEGORY_CMOV:
    case ZYDIS_CATEGORY_SETCC:
      return StubKind::plain;
    case ZYDIS_CATEGORY_NOP:
    case ZYDIS_CATEGORY_WIDENOP:
      return StubKind::nothing;
    default:
      return std::nullopt;
  }
}

// What does not first wait for a pending x87 exception, and does something.
bool x87_is_control_without_wait(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_FNCLEX:
    case ZYDIS_MNEMONIC_FNINIT:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSTSW:
      return true;
    default:
      return false;
  }
}

StubKind x87_kind(ZydisMnemonic mnemonic) {
  if (x87_is_control_without_wait(mnemonic)) return StubKind::x87_software;
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_FENI8087_NOP:
    case ZYDIS_MNEMONIC_FDISI8087_NOP:
    case ZYDIS_MNEMONIC_FSETPM287_NOP:
      return StubKind::nothing;
    case ZYDIS_MNEMONIC_F2XM1:
    case ZYDIS_MNEMONIC_FBLD:
    case ZYDIS_MNEMONIC_FCOS:
    case ZYDIS_MNEMONIC_FLDCW:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FPATAN:
    case ZYDIS_MNEMONIC_FPREM:
    case ZYDIS_MNEMONIC_FPREM1:
    case ZYDIS_MNEMONIC_FPTAN:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FSIN:
    case ZYDIS_MNEMONIC_FSINCOS:
    case ZYDIS_MNEMONIC_FYL2X:
    case ZYDIS_MNEMONIC_FYL2XP1:
      return StubKind::x87_software;
    default:
      return StubKind::x87;
  }
}

StubPolicy x87_policy(const ZydisDecodedInstruction& instruction) {
  StubPolicy policy;
  policy.unit = StubUnit::x87;
  policy.kind = x87_kind(instruction.mnemonic);
  policy.waits =
      policy.kind != StubKind::nothing && !x87_is_control_without_wait(instruction.mnemonic);
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_FCOMI:
    case ZYDIS_MNEMONIC_FCOMIP:
    case ZYDIS_MNEMONIC_FUCOMI:
    case ZYDIS_MNEMONIC_FUCOMIP:
      policy.emit.clear_c1_before = true;
      break;
    case ZYDIS_MNEMONIC_FFREE:
    case ZYDIS_MNEMONIC_FFREEP:
      policy.emit.clear_c1_after = true;
      break;
    default:
      policy.emit.clear_c1_before = instruction.meta.category == ZYDIS_CATEGORY_FCMOV;
      break;
  }
  return policy;
}

// Conversions between the two register files.
bool converts_mmx(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_CVTPD2PI:
    case ZYDIS_MNEMONIC_CVTPI2PD:
    case ZYDIS_MNEMONIC_CVTPI2PS:
    case ZYDIS_MNEMONIC_CVTPS2PI:
    case ZYDIS_MNEMONIC_CVTTPD2PI:
    case ZYDIS_MNEMONIC_CVTTPS2PI:
      return true;
    default:
      return false;
  }
}

bool allows_misalignment(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
      return true;
    default:
      return false;
  }
}

bool uses_mmx(const StubShape& shape, const ZydisDecodedInstruction& instruction) {
  // MMX forms carry no mandatory prefix; MOVQ2DQ and MOVDQ2Q do.
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_MOVQ2DQ:
    case ZYDIS_MNEMONIC_MOVDQ2Q:
    case ZYDIS_MNEMONIC_EMMS:
      return true;
    default:
      break;
  }
  switch (instruction.meta.isa_set) {
    case ZYDIS_ISA_SET_PENTIUMMMX:
    case ZYDIS_ISA_SET_SSE2MMX:
    case ZYDIS_ISA_SET_SSSE3MMX:
      return true;
    case ZYDIS_ISA_SET_SSE:
      // PMOVMSKB r, mm is the one the decoder files under SSE.
      return instruction.mnemonic == ZYDIS_MNEMONIC_PMOVMSKB && !shape.prefix_66;
    default:
      return false;
  }
}

std::optional<StubPolicy> sse_policy(const ZydisDecodedInstruction& instruction,
                                     const StubShape& shape) {
  StubPolicy policy;
  policy.unit = StubUnit::sse;
  policy.needs_alignment = shape.memory_bytes == 16 && !allows_misalignment(instruction.mnemonic);
  if (shape.memory_form && instruction.mnemonic == ZYDIS_MNEMONIC_CVTPI2PS) {
    policy.kind = StubKind::integer_pair;
    return policy;
  }
  if (shape.memory_form && instruction.mnemonic == ZYDIS_MNEMONIC_CVTPI2PD) {
    policy.kind = StubKind::simd_float;
    return policy;
  }
  if (converts_mmx(instruction.mnemonic)) {
    policy.kind = StubKind::x87_simd_float;
    policy.waits = true;
    return policy;
  }
  if (uses_mmx(shape, instruction)) {
    policy.unit = StubUnit::mmx;
    policy.kind = StubKind::x87;
    policy.waits = true;
    return policy;
  }
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
      policy.unit = StubUnit::integer;
      policy.kind = StubKind::nothing;
      return policy;
    case ZYDIS_MNEMONIC_MOVNTI:
      policy.unit = StubUnit::integer;
      return policy;
    case ZYDIS_MNEMONIC_RCPPS:
    case ZYDIS_MNEMONIC_RCPSS:
    case ZYDIS_MNEMONIC_RSQRTPS:
    case ZYDIS_MNEMONIC_RSQRTSS:
      policy.kind = StubKind::estimate;
      return policy;
    case ZYDIS_MNEMONIC_DPPS:
    case ZYDIS_MNEMONIC_DPPD:
      policy.kind = StubKind::dot_product;
      return policy;
    case ZYDIS_MNEMONIC_CRC32:
      policy.unit = StubUnit::integer;
      return policy;
    default:
      break;
  }
  if (instruction.meta.exception_class == ZYDIS_EXCEPTION_CLASS_SSE2 ||
      instruction.meta.exception_class == ZYDIS_EXCEPTION_CLASS_SSE3) {
    policy.kind = StubKind::simd_float;
  }
  return policy;
}

// Non-temporal moves as plain ones: their hint has no architectural effect and costs the host time.
// CVTPI2PD from memory, which may not touch the x87 state, as its sister that has nothing to do
// with MMX on any host.
void simplify(ZydisMnemonic mnemonic, StubShape& shape) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOVNTI:
      shape.map = 0;
      shape.opcode = 0x89;
      break;
    case ZYDIS_MNEMONIC_MOVNTPS:
    case ZYDIS_MNEMONIC_MOVNTPD:
      shape.opcode = 0x29;
      break;
    case ZYDIS_MNEMONIC_MOVNTQ:
    case ZYDIS_MNEMONIC_MOVNTDQ:
      shape.opcode = 0x7f;
      break;
    case ZYDIS_MNEMONIC_CVTPI2PD:
      if (shape.memory_form) {  // as CVTDQ2PD
        shape.prefix_66 = false;
        shape.repeat_prefix = 0xf3;
        shape.opcode = 0xe6;
      }
      break;
    case ZYDIS_MNEMONIC_MOVNTDQA:
      shape.map = 1;
      shape.opcode = 0x6f;
      break;
    default:
      break;
  }
}

// Flags that the architecture leaves undefined keep their value where one mask does it (MUL, IMUL,
// BT and its kind), or are computed by the wrapper (undefined_flags.h).
void define_flags(const ZydisDecodedInstruction& instruction, StubKind kind, StubShape& shape) {
  if (kind == StubKind::shift || kind == StubKind::double_shift) {
    shape.flags_read |= status_flags;  // a count of zero changes none
    shape.flags_written = status_flags;
  } else if (kind == StubKind::bit_scan) {
    shape.flags_written = status_flags;
    shape.repeat_prefix = 0;
  } else if (instruction.mnemonic == ZYDIS_MNEMONIC_SBB) {
    shape.flags_written = status_flags;  // the decoder's table forgets AF
  } else if (kind == StubKind::plain && instruction.cpu_flags != nullptr) {
    shape.flags_written &= ~static_cast<std::uint64_t>(instruction.cpu_flags->undefined);
  }
}

std::optional<StubPolicy> integer_policy(const ZydisDecodedInstruction& instruction,
                                         StubShape& shape) {
  const std::optional<StubKind> kind = integer_kind(instruction);
  // In 32-bit code 40-4f are INC and DEC: only encodings that mean the same everywhere.
  if (!kind || (instruction.machine_mode != ZYDIS_MACHINE_MODE_LONG_64 && shape.map == 0)) {
    return std::nullopt;
  }
  StubPolicy policy;
  policy.kind = *kind;
  policy.needs_alignment = instruction.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B;
  define_flags(instruction, *kind, shape);
  return policy;
}

StubPolicy hint() {
  StubPolicy policy;
  policy.kind = StubKind::nothing;
  return policy;
}

}  // namespace

std::optional<StubPolicy> stub_policy(const ZydisDecodedInstruction& instruction,
                                      StubShape& shape) {
  simplify(instruction.mnemonic, shape);
  switch (instruction.meta.isa_set) {
    case ZYDIS_ISA_SET_X87:
    case ZYDIS_ISA_SET_FCMOV:
    case ZYDIS_ISA_SET_SSE3X87:
      return x87_policy(instruction);
    case ZYDIS_ISA_SET_PPRO:
      if (instruction.meta.category == ZYDIS_CATEGORY_X87_ALU) return x87_policy(instruction);
      return integer_policy(instruction, shape);
    case ZYDIS_ISA_SET_SSE:
    case ZYDIS_ISA_SET_SSE2:
    case ZYDIS_ISA_SET_SSE3:
    case ZYDIS_ISA_SET_SSSE3:
    case ZYDIS_ISA_SET_SSE4:
    case ZYDIS_ISA_SET_SSE42:
    case ZYDIS_ISA_SET_PENTIUMMMX:
    case ZYDIS_ISA_SET_SSE2MMX:
    case ZYDIS_ISA_SET_SSSE3MMX:
      if (instruction.mnemonic == ZYDIS_MNEMONIC_FISTTP) return x87_policy(instruction);
      return sse_policy(instruction, shape);
    case ZYDIS_ISA_SET_I86:
    case ZYDIS_ISA_SET_I186:
    case ZYDIS_ISA_SET_I386:
    case ZYDIS_ISA_SET_I486REAL:
    case ZYDIS_ISA_SET_PENTIUMREAL:
    case ZYDIS_ISA_SET_CMOV:
    case ZYDIS_ISA_SET_CMPXCHG16B:
    case ZYDIS_ISA_SET_LAHF:
    case ZYDIS_ISA_SET_LONGMODE:
    case ZYDIS_ISA_SET_POPCNT:
    case ZYDIS_ISA_SET_LZCNT:
    case ZYDIS_ISA_SET_BMI1:
    case ZYDIS_ISA_SET_FAT_NOP:
      return integer_policy(instruction, shape);
    case ZYDIS_ISA_SET_PAUSE:
    case ZYDIS_ISA_SET_PREFETCH_NOP:
    case ZYDIS_ISA_SET_SSE_PREFETCH:
      return hint();
    case ZYDIS_ISA_SET_CET:
      // On a CPU without CET these are the NOPs they were made from.
      if (instruction.mnemonic == ZYDIS_MNEMONIC_ENDBR64 ||
          instruction.mnemonic == ZYDIS_MNEMONIC_ENDBR32 ||
          instruction.mnemonic == ZYDIS_MNEMONIC_RDSSPD ||
          instruction.mnemonic == ZYDIS_MNEMONIC_RDSSPQ) {
        return hint();
      }
      return std::nullopt;
    case ZYDIS_ISA_SET_CLFSH: {
      StubPolicy policy;
      policy.kind = StubKind::touch;
      return policy;
    }
    default:
      return std::nullopt;
  }
}

}  // namespace node_mesh
