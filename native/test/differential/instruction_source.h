// Makes random instructions of a group: bytes first, then the decoder says what they are, so that
// every form, prefix and register that the encoding allows comes up.
#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "test/differential/random.h"

namespace node_mesh::differential {

enum class Group : std::uint8_t { integer, stack, branch, string, x87, mmx, sse, absent };
inline constexpr std::array<std::string_view, 8> group_names = {
    "integer", "stack", "branch", "string", "x87", "mmx", "sse", "absent"};

struct Decoded {
  ZydisDecodedInstruction instruction;
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
  std::array<std::uint8_t, 15> bytes;

  std::span<const ZydisDecodedOperand> all_operands() const {
    return std::span(operands).first(instruction.operand_count);
  }
  // The memory operand that ModRM names, or null.
  const ZydisDecodedOperand* explicit_memory() const;
  std::string_view mnemonic() const { return ZydisMnemonicGetString(instruction.mnemonic); }
};

class InstructionSource {
 public:
  InstructionSource();

  Decoded make(Group group, Random& random) const;
  // For programs: no control flow, no stack, memory only at [rbx + disp32].
  Decoded make_for_program(Group group, Random& random) const;

  bool decode(std::span<const std::uint8_t> bytes, Decoded& decoded) const;

 private:
  bool attempt(Group group, Random& random, bool for_program, Decoded& decoded) const;
  ZydisDecoder decoder_;
};

}  // namespace node_mesh::differential
