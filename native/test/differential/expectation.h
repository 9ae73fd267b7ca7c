// What the guest must show, given what the host did: the host's outcome with everything undefined,
// vendor-specific or address-dependent replaced by the machine's own definition.
#pragma once

#include <string>

#include "test/differential/case.h"
#include "test/differential/instruction_source.h"

namespace node_mesh::differential {

// False: the host's outcome says nothing about this case.
bool expect(const Case& test, const Decoded* instruction, const Outcome& actual, Outcome& expected);

// The linear address of the memory operand that ModRM names.
std::uint64_t operand_address(const Case& test, const Decoded& instruction);

// Empty when equal, else a line for each difference.
std::string differences(const Outcome& expected, const Outcome& actual);

// The case and both outcomes for a human.
std::string describe(const Case& test, const Decoded* instruction);

}  // namespace node_mesh::differential
