#include "cpu/stub/stub_shape.h"

#include <algorithm>

#include "cpu/stub/stub.h"

namespace node_mesh {
namespace {

constexpr unsigned rsp = 4;

bool is_written(const ZydisDecodedOperand& operand) {
  return (operand.actions & (ZYDIS_OPERAND_ACTION_WRITE | ZYDIS_OPERAND_ACTION_CONDWRITE)) != 0;
}

bool is_read(const ZydisDecodedOperand& operand) {
  return (operand.actions & (ZYDIS_OPERAND_ACTION_READ | ZYDIS_OPERAND_ACTION_CONDREAD)) != 0;
}

bool is_gpr_class(ZydisRegisterClass register_class) {
  return register_class == ZYDIS_REGCLASS_GPR8 || register_class == ZYDIS_REGCLASS_GPR16 ||
         register_class == ZYDIS_REGCLASS_GPR32 || register_class == ZYDIS_REGCLASS_GPR64;
}

// The 64-bit register's number; AH..BH count as RAX..RBX.
unsigned gpr_number(ZydisRegister reg) {
  const ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
  return static_cast<unsigned>(whole - ZYDIS_REGISTER_RAX);
}

// Only where the encoding names it can another register take its place.
bool add_rsp(StubShape& shape, ZydisOperandEncoding encoding) {
  switch (encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
      shape.reg_is_rsp = true;
      return true;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
      shape.rm_is_rsp = true;
      return true;
    case ZYDIS_OPERAND_ENCODING_OPCODE:
      shape.opcode_is_rsp = true;
      return true;
    default:
      return false;
  }
}

bool add_register(StubShape& shape, const ZydisDecodedOperand& operand) {
  const ZydisRegister reg = operand.reg.value;
  const ZydisRegisterClass register_class = ZydisRegisterGetClass(reg);
  if (is_gpr_class(register_class)) {
    const unsigned number = gpr_number(reg);
    if (number > 15) return false;
    shape.gpr_used |= 1u << number;
    if (is_written(operand)) shape.gpr_written |= 1u << number;
    return number != rsp || add_rsp(shape, operand.encoding);
  }
  switch (register_class) {
    case ZYDIS_REGCLASS_XMM: {
      const auto number = static_cast<unsigned>(reg - ZYDIS_REGISTER_XMM0);
      if (number > 15) return false;
      shape.xmm_used |= 1u << number;
      if (is_written(operand)) shape.xmm_written |= 1u << number;
      return true;
    }
    case ZYDIS_REGCLASS_FLAGS:
    case ZYDIS_REGCLASS_MMX:
    case ZYDIS_REGCLASS_X87:
      return true;
    default:
      return reg == ZYDIS_REGISTER_X87STATUS || reg == ZYDIS_REGISTER_X87CONTROL ||
             reg == ZYDIS_REGISTER_X87TAG;
  }
}

bool add_memory(StubShape& shape, const ZydisDecodedOperand& operand) {
  if (shape.bounce_in_rdi) {
    shape.memory_bytes = static_cast<std::uint8_t>(operand.size / 8);
    shape.reads_memory = shape.writes_memory = true;  // some bytes keep their value
    return operand.mem.type == ZYDIS_MEMOP_TYPE_MEM;
  }
  if (operand.visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT) return false;
  if (operand.mem.type != ZYDIS_MEMOP_TYPE_MEM || !shape.has_modrm || shape.memory_bytes != 0) {
    return false;
  }
  if (operand.encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM) return false;
  if (operand.size == 0 || operand.size % 8 != 0 || operand.size / 8 > stub_memory_bytes_max) {
    return false;
  }
  shape.memory_bytes = static_cast<std::uint8_t>(operand.size / 8);
  shape.reads_memory = is_read(operand);
  shape.writes_memory = is_written(operand);
  return true;
}

void add_prefixes(StubShape& shape, const ZydisDecodedInstruction& instruction) {
  for (unsigned i = 0; i < instruction.raw.prefix_count; ++i) {
    const auto& prefix = instruction.raw.prefixes[i];
    if (prefix.type == ZYDIS_PREFIX_TYPE_IGNORED) continue;
    if (prefix.value == 0x66) shape.prefix_66 = true;
    if (prefix.value == 0xf2 || prefix.value == 0xf3) shape.repeat_prefix = prefix.value;
  }
  if ((instruction.attributes & ZYDIS_ATTRIB_HAS_REX) != 0) {
    shape.has_rex = true;
    shape.rex_w = instruction.raw.rex.W != 0;
    shape.rex_r = instruction.raw.rex.R != 0;
    shape.rex_b = instruction.raw.rex.B != 0;
  }
}

bool add_opcode(StubShape& shape, const ZydisDecodedInstruction& instruction,
                std::span<const std::uint8_t> bytes) {
  switch (instruction.opcode_map) {
    case ZYDIS_OPCODE_MAP_DEFAULT:
      shape.map = 0;
      break;
    case ZYDIS_OPCODE_MAP_0F:
      shape.map = 1;
      break;
    case ZYDIS_OPCODE_MAP_0F38:
      shape.map = 2;
      break;
    case ZYDIS_OPCODE_MAP_0F3A:
      shape.map = 3;
      break;
    default:
      return false;
  }
  shape.opcode = instruction.opcode;
  shape.has_modrm = (instruction.attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0;
  if (shape.has_modrm) {
    shape.memory_form = instruction.raw.modrm.mod != 3;
    shape.reg = instruction.raw.modrm.reg;
    shape.rm = shape.memory_form ? std::uint8_t{0} : instruction.raw.modrm.rm;
    if (shape.memory_form) shape.rex_b = false;
  }
  for (const auto& immediate : instruction.raw.imm) {
    if (immediate.size == 0) continue;
    const unsigned size = immediate.size / 8u;
    if (immediate.is_relative || shape.immediate_bytes + size > shape.immediate.size() ||
        immediate.offset + size > bytes.size()) {
      return false;
    }
    std::copy_n(bytes.begin() + immediate.offset, size,
                shape.immediate.begin() + shape.immediate_bytes);
    shape.immediate_bytes = static_cast<std::uint8_t>(shape.immediate_bytes + size);
  }
  return true;
}

}  // namespace

std::string StubShape::key() const {
  std::string text;
  const unsigned bits = (prefix_66 ? 1u : 0u) | (has_rex ? 2u : 0u) | (rex_w ? 4u : 0u) |
                        (rex_r ? 8u : 0u) | (rex_b ? 16u : 0u) | (has_modrm ? 32u : 0u) |
                        (memory_form ? 64u : 0u) | (long_mode ? 128u : 0u);
  for (const unsigned part : {bits, static_cast<unsigned>(repeat_prefix), unsigned{map},
                              unsigned{opcode}, reg * 8u + rm, unsigned{memory_bytes}}) {
    text.push_back(static_cast<char>(part));
  }
  text.append(reinterpret_cast<const char*>(immediate.data()), immediate_bytes);
  return text;
}

std::optional<StubShape> stub_shape(const ZydisDecodedInstruction& instruction,
                                    std::span<const ZydisDecodedOperand> operands,
                                    std::span<const std::uint8_t> bytes) {
  if (instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) return std::nullopt;
  // Without the hidden operands a stub would miss registers, or memory.
  if (operands.size() != instruction.operand_count) return std::nullopt;
  StubShape shape;
  shape.long_mode = instruction.machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
  if (!shape.long_mode && instruction.machine_mode != ZYDIS_MACHINE_MODE_LONG_COMPAT_32) {
    return std::nullopt;
  }
  add_prefixes(shape, instruction);
  if (!add_opcode(shape, instruction, bytes)) return std::nullopt;
  shape.bounce_in_rdi = instruction.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
                        instruction.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ;
  for (const ZydisDecodedOperand& operand : operands) {
    switch (operand.type) {
      case ZYDIS_OPERAND_TYPE_REGISTER:
        if (!add_register(shape, operand)) return std::nullopt;
        break;
      case ZYDIS_OPERAND_TYPE_MEMORY:
        if (!add_memory(shape, operand)) return std::nullopt;
        break;
      case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        break;
      default:
        return std::nullopt;
    }
  }
  // A memory form whose operand the decoder does not list could touch any size.
  if (shape.memory_form && shape.memory_bytes == 0) return std::nullopt;
  if (instruction.cpu_flags != nullptr) {
    const ZydisAccessedFlags& flags = *instruction.cpu_flags;
    shape.flags_written =
        (flags.modified | flags.set_0 | flags.set_1 | flags.undefined) & status_flags;
    shape.flags_read = flags.tested & status_flags;
    if (((flags.modified | flags.set_0 | flags.set_1) & ~status_flags) != 0) return std::nullopt;
  }
  return shape;
}

}  // namespace node_mesh
