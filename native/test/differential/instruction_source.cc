#include "test/differential/instruction_source.h"

#include <algorithm>

#include "machine/check.h"
#include "test/differential/layout.h"

namespace node_mesh::differential {
namespace {

constexpr unsigned rbx = 3;

bool is_explicit_segment(const ZydisDecodedOperand& operand) {
  if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER) return false;
  const ZydisRegisterClass c = ZydisRegisterGetClass(operand.reg.value);
  return c == ZYDIS_REGCLASS_SEGMENT || c == ZYDIS_REGCLASS_CONTROL || c == ZYDIS_REGCLASS_DEBUG;
}

bool has_prefix(const Decoded& d, std::uint8_t value) {
  for (unsigned i = 0; i < d.instruction.raw.prefix_count; ++i) {
    if (d.instruction.raw.prefixes[i].value == value) return true;
  }
  return false;
}

// BT [base], base: the bit offset could lead anywhere, even into the sandbox's own memory.
bool offset_is_base(const Decoded& d) {
  const ZydisDecodedOperand* memory = d.explicit_memory();
  if (memory == nullptr || d.operands[1].type != ZYDIS_OPERAND_TYPE_REGISTER) return false;
  const auto whole = [](ZydisRegister reg) {
    return ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
  };
  const ZydisRegister offset = whole(d.operands[1].reg.value);
  return whole(memory->mem.base) == offset || whole(memory->mem.index) == offset;
}

bool is_integer(const Decoded& d) {
  switch (d.instruction.meta.isa_set) {
    case ZYDIS_ISA_SET_BMI1:
    case ZYDIS_ISA_SET_LZCNT:
      return d.instruction.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && !has_prefix(d, 0x65);
    case ZYDIS_ISA_SET_SSE42:
      return d.instruction.mnemonic == ZYDIS_MNEMONIC_CRC32;
    case ZYDIS_ISA_SET_SSE2:
      return d.instruction.mnemonic == ZYDIS_MNEMONIC_MOVNTI;
    case ZYDIS_ISA_SET_POPCNT:
    case ZYDIS_ISA_SET_CMPXCHG16B:
    case ZYDIS_ISA_SET_LAHF:
      return true;
    default:
      break;
  }
  switch (d.instruction.meta.category) {
    case ZYDIS_CATEGORY_BINARY:
    case ZYDIS_CATEGORY_LOGICAL:
    case ZYDIS_CATEGORY_SHIFT:
    case ZYDIS_CATEGORY_ROTATE:
    case ZYDIS_CATEGORY_CMOV:
    case ZYDIS_CATEGORY_SETCC:
    case ZYDIS_CATEGORY_CONVERT:
    case ZYDIS_CATEGORY_DATAXFER:
    case ZYDIS_CATEGORY_SEMAPHORE:
    case ZYDIS_CATEGORY_NOP:
    case ZYDIS_CATEGORY_WIDENOP:
      return d.instruction.meta.isa_ext == ZYDIS_ISA_EXT_BASE ||
             d.instruction.meta.isa_ext == ZYDIS_ISA_EXT_LONGMODE;
    case ZYDIS_CATEGORY_BITBYTE:
      return d.instruction.meta.isa_ext == ZYDIS_ISA_EXT_BASE && !offset_is_base(d);
    case ZYDIS_CATEGORY_FLAGOP:
      return d.instruction.mnemonic != ZYDIS_MNEMONIC_CLI &&
             d.instruction.mnemonic != ZYDIS_MNEMONIC_STI;
    default:
      return d.instruction.mnemonic == ZYDIS_MNEMONIC_LEA ||
             d.instruction.mnemonic == ZYDIS_MNEMONIC_XLAT;
  }
}

bool is_stack(const Decoded& d) {
  return d.instruction.meta.category == ZYDIS_CATEGORY_PUSH ||
         d.instruction.meta.category == ZYDIS_CATEGORY_POP ||
         d.instruction.mnemonic == ZYDIS_MNEMONIC_ENTER ||
         d.instruction.mnemonic == ZYDIS_MNEMONIC_LEAVE;
}

// With an operand-size prefix vendors disagree on near branches.
bool is_near_branch(const Decoded& d) {
  const ZydisBranchType type = d.instruction.meta.branch_type;
  const bool near =
      type == ZYDIS_BRANCH_TYPE_SHORT || type == ZYDIS_BRANCH_TYPE_NEAR ||
      (d.instruction.meta.category == ZYDIS_CATEGORY_RET &&
       d.instruction.mnemonic == ZYDIS_MNEMONIC_RET && type != ZYDIS_BRANCH_TYPE_FAR &&
       d.instruction.opcode != 0xca && d.instruction.opcode != 0xcb);
  // The same goes for a repeat prefix of LOOPE and LOOPNE: AMD takes the condition from it.
  const bool odd_loop = (d.instruction.mnemonic == ZYDIS_MNEMONIC_LOOPE ||
                         d.instruction.mnemonic == ZYDIS_MNEMONIC_LOOPNE) &&
                        (has_prefix(d, 0xf2) || has_prefix(d, 0xf3));
  return near && !odd_loop && !has_prefix(d, 0x66) &&
         d.instruction.mnemonic != ZYDIS_MNEMONIC_XBEGIN &&
         d.instruction.mnemonic != ZYDIS_MNEMONIC_XEND;
}

bool is_sse_set(ZydisISASet set) {
  switch (set) {
    case ZYDIS_ISA_SET_SSE:
    case ZYDIS_ISA_SET_SSE2:
    case ZYDIS_ISA_SET_SSE3:
    case ZYDIS_ISA_SET_SSSE3:
    case ZYDIS_ISA_SET_SSE4:
    case ZYDIS_ISA_SET_SSE42:
    case ZYDIS_ISA_SET_SSEMXCSR:
    case ZYDIS_ISA_SET_FXSAVE:
    case ZYDIS_ISA_SET_FXSAVE64:
    case ZYDIS_ISA_SET_SSE_PREFETCH:
    case ZYDIS_ISA_SET_CLFSH:
      return true;
    default:
      return false;
  }
}

bool is_mmx(const Decoded& d) {
  switch (d.instruction.meta.isa_set) {
    case ZYDIS_ISA_SET_PENTIUMMMX:
    case ZYDIS_ISA_SET_SSE2MMX:
    case ZYDIS_ISA_SET_SSSE3MMX:
      return true;
    default:
      break;
  }
  if (!is_sse_set(d.instruction.meta.isa_set)) return false;
  return std::ranges::any_of(d.all_operands(), [](const ZydisDecodedOperand& operand) {
    return operand.type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(operand.reg.value) == ZYDIS_REGCLASS_MMX;
  });
}

// What the guest's CPU model does not have: #UD there, whatever the host makes of it.
bool is_absent(const Decoded& d) {
  if (d.instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) {
    return d.instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_3DNOW &&
           d.instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_MVEX &&
           d.instruction.meta.isa_ext != ZYDIS_ISA_EXT_KNC;
  }
  switch (d.instruction.meta.isa_set) {
    case ZYDIS_ISA_SET_ADOX_ADCX:
    case ZYDIS_ISA_SET_AES:
    case ZYDIS_ISA_SET_CLFLUSHOPT:
    case ZYDIS_ISA_SET_CLWB:
    case ZYDIS_ISA_SET_GFNI:
    case ZYDIS_ISA_SET_MOVBE:
    case ZYDIS_ISA_SET_MOVDIR:
    case ZYDIS_ISA_SET_PCLMULQDQ:
    case ZYDIS_ISA_SET_RDPID:
    case ZYDIS_ISA_SET_RDRAND:
    case ZYDIS_ISA_SET_RDSEED:
    case ZYDIS_ISA_SET_RDWRFSGS:
    case ZYDIS_ISA_SET_SHA:
    case ZYDIS_ISA_SET_SSE4A:
    case ZYDIS_ISA_SET_XSAVE:
    case ZYDIS_ISA_SET_XSAVEC:
    case ZYDIS_ISA_SET_XSAVEOPT:
      return true;
    default:
      return false;
  }
}

bool belongs(Group group, const Decoded& d) {
  if (std::ranges::any_of(d.all_operands(), is_explicit_segment)) return false;
  if (has_prefix(d, 0x64)) return false;  // the sandbox's own thread-local storage
  // Its register form is reserved: vendors differ.
  if (d.instruction.meta.isa_set == ZYDIS_ISA_SET_PREFETCH_NOP) return false;
  switch (group) {
    case Group::integer:
      return is_integer(d) && !is_mmx(d);
    case Group::stack:
      return is_stack(d);
    case Group::branch:
      return is_near_branch(d);
    case Group::string:
      return d.instruction.meta.category == ZYDIS_CATEGORY_STRINGOP;
    case Group::x87:
      return d.instruction.meta.category == ZYDIS_CATEGORY_X87_ALU ||
             d.instruction.meta.category == ZYDIS_CATEGORY_FCMOV;
    case Group::mmx:
      return is_mmx(d);
    case Group::sse:
      return is_sse_set(d.instruction.meta.isa_set) && !is_mmx(d);
    case Group::absent:
      return is_absent(d);
  }
  return false;
}

struct Bytes {
  std::array<std::uint8_t, 24> bytes{};
  std::size_t size = 0;
  void put(std::uint64_t byte) { bytes[size++] = static_cast<std::uint8_t>(byte); }
};

void put_prefixes(Bytes& out, Group group, Random& random) {
  if (random.one_in(12)) out.put(0x65);
  if (random.one_in(16)) out.put(0x67);
  if ((group == Group::integer) && random.one_in(12)) out.put(0xf0);
  if (random.one_in(3)) out.put(0x66);
  const bool repeats = group == Group::sse || group == Group::string || group == Group::absent;
  if (random.one_in(repeats ? 2 : 12)) out.put(random.pick({0xf2u, 0xf3u}));
  if (group == Group::absent && random.one_in(2)) return;
  if (random.one_in(2)) out.put(0x40 | random.below(16));
}

void put_vex(Bytes& out, Random& random) {
  if (random.one_in(2)) {
    out.put(0xc5);
    out.put(random.next());
  } else {
    out.put(0xc4);
    out.put((random.next() & 0xe0) | (1 + random.below(3)));
    out.put(random.next());
  }
}

void put_opcode(Bytes& out, Group group, Random& random) {
  switch (group) {
    case Group::x87:
      out.put(random.one_in(64) ? 0x9b : 0xd8 | random.below(8));
      return;
    case Group::string:
      out.put(random.pick({0xa4u, 0xa5u, 0xa6u, 0xa7u, 0xaau, 0xabu, 0xacu, 0xadu, 0xaeu, 0xafu}));
      return;
    case Group::stack:
      out.put(random.pick({0x50u, 0x58u, 0x68u, 0x6au, 0x8fu, 0xffu, 0x9cu, 0x9du, 0xc8u, 0xc9u}) |
              (random.one_in(2) ? 0 : random.below(8)));
      return;
    case Group::absent:
      if (random.one_in(2)) {
        put_vex(out, random);
        out.put(random.next());
        return;
      }
      [[fallthrough]];
    case Group::mmx:
    case Group::sse: {
      out.put(0x0f);
      const std::uint64_t map = random.below(4);
      if (map == 0) out.put(0x38);
      if (map == 1) out.put(0x3a);
      out.put(random.next());
      return;
    }
    default:
      if (random.one_in(3)) out.put(0x0f);
      if (random.one_in(40)) {
        out.put(0x38);
        out.put(0xf0 | random.below(2));
        return;
      }
      out.put(random.next());
      return;
  }
}

// The decoder takes a bare displacement for R13D where REX.B and an address-size prefix are there.
void correct_base(Decoded& d) {
  const auto& raw = d.instruction.raw;
  if (raw.sib.offset == 0 || raw.modrm.mod != 0 || raw.sib.base != 5) return;
  for (ZydisDecodedOperand& operand : d.operands) {
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY || operand.mem.base != ZYDIS_REGISTER_R13D ||
        operand.visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
      continue;
    }
    operand.mem.base = ZYDIS_REGISTER_NONE;
    operand.mem.disp.value = raw.disp.value;
  }
}

}  // namespace

const ZydisDecodedOperand* Decoded::explicit_memory() const {
  for (unsigned i = 0; i < instruction.operand_count; ++i) {
    if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
        operands[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
      return &operands[i];
    }
  }
  return nullptr;
}

InstructionSource::InstructionSource() {
  NM_CHECK(
      ZYAN_SUCCESS(ZydisDecoderInit(&decoder_, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)));
}

bool InstructionSource::decode(std::span<const std::uint8_t> bytes, Decoded& decoded) const {
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder_, bytes.data(), bytes.size(),
                                           &decoded.instruction, decoded.operands.data()))) {
    return false;
  }
  std::ranges::copy(bytes.first(decoded.instruction.length), decoded.bytes.begin());
  correct_base(decoded);
  return true;
}

bool InstructionSource::attempt(Group group, Random& random, bool for_program,
                                Decoded& decoded) const {
  Bytes out;
  put_prefixes(out, group, random);
  put_opcode(out, group, random);
  const std::size_t modrm = out.size;
  while (out.size < 15)
    out.put(random.one_in(4) ? 0 : random.next());
  if (for_program && random.one_in(2)) {
    out.bytes[modrm] = static_cast<std::uint8_t>(0x83 | (out.bytes[modrm] & 0x38));
    const std::uint64_t displacement = random.below(data_bytes / 16 - 8) * 16;
    for (unsigned i = 0; i < 4; ++i) {
      out.bytes[modrm + 1 + i] = static_cast<std::uint8_t>(displacement >> (8 * i));
    }
  }
  return decode(std::span(out.bytes).first(15), decoded) && belongs(group, decoded);
}

Decoded InstructionSource::make(Group group, Random& random) const {
  Decoded decoded;
  while (!attempt(group, random, false, decoded)) {
  }
  return decoded;
}

namespace {

// Registers that a program keeps for itself.
bool is_reserved(unsigned number) { return number == rbx || number == 4 || number == 15; }

bool fits_program(const Decoded& d) {
  if (has_prefix(d, 0x65) || has_prefix(d, 0x67)) return false;
  for (const ZydisDecodedOperand& operand : d.all_operands()) {
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
      const auto& memory = operand.mem;
      const bool address_only = memory.type == ZYDIS_MEMOP_TYPE_AGEN;
      const bool fixed = memory.base == ZYDIS_REGISTER_RBX && memory.index == ZYDIS_REGISTER_NONE &&
                         memory.disp.value >= 0 &&
                         memory.disp.value < static_cast<std::int64_t>(data_bytes - 128);
      if (!address_only && !fixed) return false;
    }
    if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
    const ZydisRegister whole =
        ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, operand.reg.value);
    const bool gpr = whole >= ZYDIS_REGISTER_RAX && whole <= ZYDIS_REGISTER_R15;
    if (gpr && is_reserved(static_cast<unsigned>(whole - ZYDIS_REGISTER_RAX)) &&
        (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0) {
      return false;
    }
  }
  switch (d.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
      return d.explicit_memory() == nullptr;
    case ZYDIS_MNEMONIC_CLD:
    case ZYDIS_MNEMONIC_STD:
    case ZYDIS_MNEMONIC_BSWAP:
    case ZYDIS_MNEMONIC_TZCNT:
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_DPPD:
    case ZYDIS_MNEMONIC_DPPS:
    case ZYDIS_MNEMONIC_RCPPS:
    case ZYDIS_MNEMONIC_RCPSS:
    case ZYDIS_MNEMONIC_RSQRTPS:
    case ZYDIS_MNEMONIC_RSQRTSS:
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
      return false;
    default:
      return true;
  }
}

}  // namespace

Decoded InstructionSource::make_for_program(Group group, Random& random) const {
  Decoded decoded;
  while (!attempt(group, random, true, decoded) || !fits_program(decoded)) {
  }
  return decoded;
}

}  // namespace node_mesh::differential
