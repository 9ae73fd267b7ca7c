// The loop around blocks: limits, interrupts, pending events, single steps. Everything asynchronous
// happens here and nowhere else.
#pragma once

#include "cpu/core.h"

namespace node_mesh {

RunExit run_core(Core* c, Position limit);

}  // namespace node_mesh
