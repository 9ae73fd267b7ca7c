// Turns an instruction into a case: random registers and memory, with the registers that form its
// address set so that the operand lies where it is interesting.
#pragma once

#include "test/differential/case.h"
#include "test/differential/instruction_source.h"
#include "test/differential/random.h"

namespace node_mesh::differential {

// Fills `test`; the read-only page is the same in every case. Returns the instruction as placed
// (a RIP-relative displacement may have been changed).
Decoded make_case(const InstructionSource& source, Group group, Random& random, Case& test);

// A short program: straight-line code of all groups, forward branches and counted loops.
void make_program(const InstructionSource& source, Random& random, Case& test);

}  // namespace node_mesh::differential
