// The shape of an instruction: its bytes without whatever the stub decides (address registers,
// segment and address-size prefixes, LOCK), and the guest registers it uses. Two instructions of
// equal shape share one stub. This file knows encodings; it decides nothing about what may run.
#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace node_mesh {

inline constexpr std::uint64_t status_flags = 0x8d5;  // CF PF AF ZF SF OF

struct StubShape {
  bool long_mode = true;  // 64-bit code
  bool prefix_66 = false;
  std::uint8_t repeat_prefix = 0;  // 0xf2, 0xf3 or none
  bool has_rex = false;
  bool rex_w = false, rex_r = false, rex_b = false;
  std::uint8_t map = 0;  // 0: one byte opcodes, 1: 0f, 2: 0f38, 3: 0f3a
  std::uint8_t opcode = 0;
  bool has_modrm = false;
  bool memory_form = false;    // ModRM.rm names memory: replaced by the bounce pointer
  bool bounce_in_rdi = false;  // MASKMOVQ and MASKMOVDQU store to [RDI]: that is the bounce pointer
  std::uint8_t reg = 0, rm = 0;
  std::uint8_t immediate_bytes = 0;
  std::array<std::uint8_t, 8> immediate{};

  std::uint8_t memory_bytes = 0;
  bool reads_memory = false, writes_memory = false;
  std::uint32_t gpr_used = 0, gpr_written = 0;  // bit n: register n in encoding order
  std::uint32_t xmm_used = 0, xmm_written = 0;
  std::uint64_t flags_read = 0;  // also those kept when the instruction changes none
  std::uint64_t flags_written = 0;
  bool reg_is_rsp = false;  // ModRM.reg, ModRM.rm or the opcode's low bits name RSP, ESP,
  bool rm_is_rsp = false;   // SP or SPL, whose place another host register takes
  bool opcode_is_rsp = false;

  // Identifies the stub in the cache.
  std::string key() const;
};

// nullopt: hidden memory operands, RSP-relative or segment operands, more than one memory operand
// or anything else that the generated code could not bound.
std::optional<StubShape> stub_shape(const ZydisDecodedInstruction& instruction,
                                    std::span<const ZydisDecodedOperand> operands,
                                    std::span<const std::uint8_t> bytes);

}  // namespace node_mesh
