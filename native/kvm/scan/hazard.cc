#include "kvm/scan/hazard.h"

namespace node_mesh {
namespace {

// What tells about the host, or reaches out of the guest.
Hazard hazard_of_mnemonic(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDPRU:
    case ZYDIS_MNEMONIC_RDPMC:
      return Hazard::time_stamp;
    case ZYDIS_MNEMONIC_CPUID:
      return Hazard::cpuid;
    case ZYDIS_MNEMONIC_RDRAND:
    case ZYDIS_MNEMONIC_RDSEED:
      return Hazard::entropy;
    case ZYDIS_MNEMONIC_RDPID:
      return Hazard::processor_id;
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_SMSW:
      return Hazard::descriptor_tables;
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
      return Hazard::descriptor_checks;
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS:
      return Hazard::segments;
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
      return Hazard::far_transfer;
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMMCALL:
    case ZYDIS_MNEMONIC_VMFUNC:
      return Hazard::hypercall;
    default:
      return Hazard::none;
  }
}

Hazard hazard_of_float(const ZydisDecodedInstruction& instruction) {
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
      return Hazard::fpu_image;
    case ZYDIS_MNEMONIC_LDMXCSR:
      return Hazard::mxcsr;
    case ZYDIS_MNEMONIC_RCPPS:
    case ZYDIS_MNEMONIC_RCPSS:
    case ZYDIS_MNEMONIC_RSQRTPS:
    case ZYDIS_MNEMONIC_RSQRTSS:
    case ZYDIS_MNEMONIC_DPPS:
    case ZYDIS_MNEMONIC_DPPD:
    case ZYDIS_MNEMONIC_F2XM1:
    case ZYDIS_MNEMONIC_FCOS:
    case ZYDIS_MNEMONIC_FPATAN:
    case ZYDIS_MNEMONIC_FPREM:
    case ZYDIS_MNEMONIC_FPREM1:
    case ZYDIS_MNEMONIC_FPTAN:
    case ZYDIS_MNEMONIC_FSIN:
    case ZYDIS_MNEMONIC_FSINCOS:
    case ZYDIS_MNEMONIC_FYL2X:
    case ZYDIS_MNEMONIC_FYL2XP1:
      return Hazard::estimate;
    case ZYDIS_MNEMONIC_CVTPI2PS:
    case ZYDIS_MNEMONIC_CVTPI2PD:
      return instruction.raw.modrm.mod == 3 ? Hazard::none : Hazard::vendor_encoding;
    default:
      return Hazard::none;
  }
}

bool touches_selector(const ZydisDecodedInstruction& instruction) {
  if (instruction.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) {
    return instruction.opcode == 0x8c || instruction.opcode == 0x8e;
  }
  if (instruction.opcode_map != ZYDIS_OPCODE_MAP_0F) return false;
  return instruction.opcode == 0xa0 || instruction.opcode == 0xa1 || instruction.opcode == 0xa8 ||
         instruction.opcode == 0xa9;  // PUSH and POP of FS and GS
}

bool is_far(const ZydisDecodedInstruction& instruction) {
  if (instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return true;
  return instruction.mnemonic == ZYDIS_MNEMONIC_RET &&
         (instruction.opcode == 0xca || instruction.opcode == 0xcb);
}

// One vendor reads 66 in front of a near branch as a 16-bit target, the other ignores it.
bool is_narrow_branch(const ZydisDecodedInstruction& instruction) {
  const bool branches = instruction.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE ||
                        instruction.mnemonic == ZYDIS_MNEMONIC_RET;
  return branches && (instruction.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) != 0 &&
         instruction.raw.rex.W == 0;
}

bool is_vendor_encoding(const ZydisDecodedInstruction& instruction) {
  if (is_narrow_branch(instruction)) return true;
  if (instruction.operand_width != 16) return false;
  return instruction.mnemonic == ZYDIS_MNEMONIC_SHLD ||
         instruction.mnemonic == ZYDIS_MNEMONIC_SHRD ||
         instruction.mnemonic == ZYDIS_MNEMONIC_BSWAP;
}

// Encodings of vector instructions, of which some work on general registers and need no vector
// state to be on.
Hazard hazard_of_vector_encoding(const ZydisDecodedInstruction& instruction) {
  switch (instruction.meta.isa_set) {
    case ZYDIS_ISA_SET_BMI1:
    case ZYDIS_ISA_SET_BMI2:
    case ZYDIS_ISA_SET_TBM:
    case ZYDIS_ISA_SET_LWP:
      return Hazard::missing;
    default:
      return Hazard::vector;
  }
}

Hazard hazard_of_instruction_set(const ZydisDecodedInstruction& instruction) {
  switch (instruction.meta.isa_set) {
    case ZYDIS_ISA_SET_I86:
    case ZYDIS_ISA_SET_I186:
    case ZYDIS_ISA_SET_I286PROTECTED:
    case ZYDIS_ISA_SET_I286REAL:
    case ZYDIS_ISA_SET_I386:
    case ZYDIS_ISA_SET_I486:
    case ZYDIS_ISA_SET_I486REAL:
    case ZYDIS_ISA_SET_PENTIUMREAL:
    case ZYDIS_ISA_SET_PENTIUMMMX:
    case ZYDIS_ISA_SET_PPRO:
    case ZYDIS_ISA_SET_CMOV:
    case ZYDIS_ISA_SET_CMPXCHG16B:
    case ZYDIS_ISA_SET_FAT_NOP:
    case ZYDIS_ISA_SET_LAHF:
    case ZYDIS_ISA_SET_LONGMODE:
    case ZYDIS_ISA_SET_POPCNT:
    case ZYDIS_ISA_SET_X87:
    case ZYDIS_ISA_SET_FCMOV:
    case ZYDIS_ISA_SET_SSE:
    case ZYDIS_ISA_SET_SSEMXCSR:
    case ZYDIS_ISA_SET_SSE2:
    case ZYDIS_ISA_SET_SSE2MMX:
    case ZYDIS_ISA_SET_SSE3:
    case ZYDIS_ISA_SET_SSE3X87:
    case ZYDIS_ISA_SET_SSSE3:
    case ZYDIS_ISA_SET_SSSE3MMX:
    case ZYDIS_ISA_SET_SSE4:
    case ZYDIS_ISA_SET_SSE42:
    case ZYDIS_ISA_SET_CLFSH:
    // Hints on every CPU, known to it or not.
    case ZYDIS_ISA_SET_PAUSE:
    case ZYDIS_ISA_SET_PREFETCH_NOP:
    case ZYDIS_ISA_SET_PREFETCHWT1:
    case ZYDIS_ISA_SET_SSE_PREFETCH:
    case ZYDIS_ISA_SET_CLDEMOTE:
    case ZYDIS_ISA_SET_MPX:
      return Hazard::none;
    case ZYDIS_ISA_SET_CET:
      return instruction.meta.category == ZYDIS_CATEGORY_CET &&
                     instruction.mnemonic != ZYDIS_MNEMONIC_ENDBR32 &&
                     instruction.mnemonic != ZYDIS_MNEMONIC_ENDBR64 &&
                     instruction.mnemonic != ZYDIS_MNEMONIC_RDSSPD &&
                     instruction.mnemonic != ZYDIS_MNEMONIC_RDSSPQ
                 ? Hazard::missing
                 : Hazard::none;
    case ZYDIS_ISA_SET_XSAVE:
    case ZYDIS_ISA_SET_XSAVEC:
    case ZYDIS_ISA_SET_XSAVEOPT:
    case ZYDIS_ISA_SET_XSAVES:
      return Hazard::extended_state;
    case ZYDIS_ISA_SET_RDWRFSGS:
      return Hazard::segment_bases;
    case ZYDIS_ISA_SET_PKU:
      return Hazard::protection_keys;
    default:
      return Hazard::missing;
  }
}

}  // namespace

std::string_view hazard_name(Hazard hazard) {
  switch (hazard) {
    case Hazard::none:
      return "none";
    case Hazard::time_stamp:
      return "time stamp";
    case Hazard::cpuid:
      return "CPUID";
    case Hazard::entropy:
      return "entropy";
    case Hazard::processor_id:
      return "processor ID";
    case Hazard::descriptor_tables:
      return "descriptor tables";
    case Hazard::descriptor_checks:
      return "descriptor checks";
    case Hazard::segments:
      return "segments";
    case Hazard::far_transfer:
      return "far transfer";
    case Hazard::extended_state:
      return "extended state";
    case Hazard::vector:
      return "vector extension";
    case Hazard::segment_bases:
      return "segment bases";
    case Hazard::protection_keys:
      return "protection keys";
    case Hazard::hypercall:
      return "hypercall";
    case Hazard::fpu_image:
      return "FPU image";
    case Hazard::mxcsr:
      return "MXCSR";
    case Hazard::estimate:
      return "estimate";
    case Hazard::vendor_encoding:
      return "vendor's encoding";
    case Hazard::missing:
      return "not in the CPU model";
    case Hazard::unknown:
      return "unknown";
    case Hazard::count:
      break;
  }
  return "?";
}

Hazard hazard_of(const ZydisDecodedInstruction& instruction) {
  switch (instruction.encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_LEGACY:
      break;
    case ZYDIS_INSTRUCTION_ENCODING_3DNOW:
      return Hazard::missing;
    default:
      return hazard_of_vector_encoding(instruction);
  }
  const Hazard by_name = hazard_of_mnemonic(instruction.mnemonic);
  if (by_name != Hazard::none) return by_name;
  const Hazard by_float = hazard_of_float(instruction);
  if (by_float != Hazard::none) return by_float;
  if (touches_selector(instruction)) return Hazard::segments;
  if (is_far(instruction)) return Hazard::far_transfer;
  if (is_vendor_encoding(instruction)) return Hazard::vendor_encoding;
  if ((instruction.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) != 0) return Hazard::none;
  return hazard_of_instruction_set(instruction);
}

}  // namespace node_mesh
