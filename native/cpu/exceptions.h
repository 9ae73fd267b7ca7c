// Leaving the threaded code in front of an instruction: architectural faults, and the run loop's
// own reasons. Handlers hold nothing with a destructor, so this is a longjmp to the run loop. Also
// the delivery of events through the IDT.
#pragma once

#include "cpu/core.h"

namespace node_mesh {

// Takes the machine back to the boundary in front of `i` (null: it already is at one).
[[noreturn]] void unwind(Core* c, const Insn* i, Unwind why);

[[noreturn]] void raise(Core* c, const Insn* i, u8 vector_number);
[[noreturn]] void raise_error(Core* c, const Insn* i, u8 vector_number, u32 error);
[[noreturn]] void raise_page_fault(Core* c, const Insn* i, u64 va, u32 error);
// A trap or software interrupt: the handler finds RIP behind the instruction; a fault on the way
// there finds it at the instruction.
[[noreturn]] void raise_behind(Core* c, const Insn* i, u8 vector_number, EventKind kind);
// The monitor cannot go on with this instruction.
[[noreturn]] void raise_unsupported(Core* c, const Insn* i, const char* reason);

// A non-canonical operand or jump target.
[[noreturn]] void raise_non_canonical(Core* c, const Insn* i);
inline void require_cpl0(Core* c, const Insn* i) {
  if (c->cpl != 0) raise_error(c, i, vector::gp, 0);
}

// Runs the next instruction alone, unless it already is: for accesses whose effect on later
// instructions of the same block could not be seen otherwise.
inline void require_alone(Core* c, const Insn* i) {
  if (!c->alone) unwind(c, i, Unwind::alone);
}

// Delivers c->pending, or an external interrupt. May raise again (the run loop then makes a double
// fault of it). Counts one step.
void deliver_event(Core* c, const PendingEvent& event);
// Combines an event raised while another one was being delivered. False: shutdown.
bool combine_events(Core* c);

// Moves between privilege levels, with the position that goes with it.
void leave_user_mode(Core* c);
void enter_user_mode(Core* c);

}  // namespace node_mesh
