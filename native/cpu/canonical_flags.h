// Status flags that user code leaves behind and that nobody reads any more may hold what the
// architecture does not define, and CPUs differ there. The kernel saves them nevertheless, so they
// would make copies of one machine differ. At every way out of user mode they get a value that is a
// function of the guest alone: a flag survives only where the code that goes on may still read it.
//
// The same is done whatever ran the stretch, so this is part of what a recorded machine relies on.
#pragma once

#include "cpu/core.h"

namespace node_mesh {

// The status flags (as in RFLAGS) that 64-bit code at `va` may read before it writes them: found by
// decoding forward, along both sides of branches, as far as a fixed budget goes; what is not known
// then counts as read. Reads guest memory without setting accessed bits.
u64 live_status_flags(const Core* c, u64 va);

// Clears the dead ones in front of the delivery of an event out of user mode; `va` is where the
// code will go on.
void make_user_flags_canonical(Core* c, u64 va);

}  // namespace node_mesh
