// What may run natively, and how: the allow-list by instruction set, bounded by the guest's CPU
// model. Everything that is not listed is refused, so that the CPU raises #UD or handles it itself.
#pragma once

#include <Zydis/Zydis.h>

#include <cstdint>
#include <optional>

#include "cpu/stub/stub.h"
#include "cpu/stub/stub_emitter.h"
#include "cpu/stub/stub_shape.h"

namespace node_mesh {

// What the generated code is wrapped in.
enum class StubKind : std::uint8_t {
  nothing,         // hints: no effect, no memory access
  touch,           // CLFLUSH: reads its operand, no effect
  plain,           // the generated code alone
  simd_float,      // obeys MXCSR
  x87,             // x87 or MMX
  x87_simd_float,  // both: conversions between MMX and XMM
  logic,           // integer with undefined flags, see undefined_flags.h
  shift,
  double_shift,
  bit_scan,
  estimate,      // RCPPS, RSQRTPS and their scalar forms
  dot_product,   // DPPS, DPPD
  integer_pair,  // CVTPI2PS from memory: vendors disagree in whether it enters MMX mode
  x87_software,  // state-saving, control, partial remainders and transcendentals
};

struct StubPolicy {
  StubKind kind = StubKind::plain;
  StubUnit unit = StubUnit::integer;
  bool needs_alignment = false;
  bool waits = false;
  EmitOptions emit;
};

// May change `shape`: non-temporal moves become plain ones, TZCNT and LZCNT become BSF and BSR.
std::optional<StubPolicy> stub_policy(const ZydisDecodedInstruction& instruction, StubShape& shape);

}  // namespace node_mesh
