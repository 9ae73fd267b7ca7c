// Hardware breakpoints: DR0-DR3 under DR7. While any is enabled the run loop goes one instruction
// at a time and no data access takes the fast path, so both kinds are seen exactly.
#pragma once

#include "cpu/core.h"

namespace node_mesh {

namespace dr6 {
inline constexpr u64 fixed = 0xffff0ff0, single_step = 0x4000, access = 0x2000;
}

inline bool breakpoints_enabled(const Core* c) { return c->dr[7] & 0xff; }

// Notes data breakpoints that an access hits; the trap follows behind the instruction.
void note_data_access(Core* c, u64 va, unsigned size, bool write);
// DR6 bits of instruction breakpoints at `rip`.
u64 instruction_breakpoints(const Core* c, u64 rip);

}  // namespace node_mesh
