// Writes the host routine of one stub: load the registers that the instruction uses, run it with
// its memory operand at the bounce buffer, store what it wrote. It is the only place that makes
// machine code, and the code it makes reaches no memory but the StubOperands given to it.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/stub/stub_shape.h"

namespace node_mesh {

struct EmitOptions {
  bool clear_c1_before = false;  // x87: vendors differ in C1 here; ours is 0
  bool clear_c1_after = false;
};

std::vector<std::uint8_t> emit_stub(StubShape shape, EmitOptions options);

}  // namespace node_mesh
