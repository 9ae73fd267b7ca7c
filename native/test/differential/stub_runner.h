// Runs single instructions on their stub alone, without the CPU around it: memory operands are
// copied to and from the bounce buffer as the CPU would.
#pragma once

#include "cpu/stub/stub.h"
#include "test/differential/case.h"
#include "test/differential/instruction_source.h"

namespace node_mesh::differential {

class StubRunner {
 public:
  // False: no stub for this instruction, or its operand does not lie in the data pages.
  bool run(const Case& test, const Decoded& instruction, Outcome& outcome);

 private:
  StubCache cache_;
};

}  // namespace node_mesh::differential
