// What the C++ wrappers around generated code know about their instruction.
#pragma once

#include <Zydis/Zydis.h>

#include "cpu/stub/stub.h"
#include "cpu/stub/stub_policy.h"
#include "cpu/stub/stub_shape.h"

namespace node_mesh {

struct StubPlan {
  StubShape shape;
  StubPolicy policy;
  ZydisMnemonic mnemonic = ZYDIS_MNEMONIC_INVALID;
  unsigned operand_bits = 0;  // width of an integer operation
};

inline const StubPlan& plan_of(const Stub& stub) {
  return *static_cast<const StubPlan*>(stub.plan);
}

// The routine to enter for a plan; the generated code itself where no wrapper is needed.
Stub::Entry stub_entry(const StubPlan& plan, Stub::Entry code);
bool stub_needs_code(StubKind kind);

// Each kind of wrapper, one file per group.
StubResult run_logic(const Stub& stub, const StubOperands& operands);
StubResult run_shift(const Stub& stub, const StubOperands& operands);
StubResult run_double_shift(const Stub& stub, const StubOperands& operands);
StubResult run_bit_scan(const Stub& stub, const StubOperands& operands);
StubResult run_simd_float(const Stub& stub, const StubOperands& operands);
StubResult run_x87(const Stub& stub, const StubOperands& operands);
StubResult run_x87_simd_float(const Stub& stub, const StubOperands& operands);
StubResult run_estimate(const Stub& stub, const StubOperands& operands);
StubResult run_integer_pair(const Stub& stub, const StubOperands& operands);
StubResult run_dot_product(const Stub& stub, const StubOperands& operands);
// nullptr: not of this group.
Stub::Entry x87_control_entry(ZydisMnemonic mnemonic);
Stub::Entry x87_remainder_entry(ZydisMnemonic mnemonic);  // FPREM, FPREM1, FBLD
Stub::Entry x87_transcendental_entry(ZydisMnemonic mnemonic);

}  // namespace node_mesh
