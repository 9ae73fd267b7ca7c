// Stretches of user mode that an engine (kvm/user_engine.h) runs, in whole or in part: when to hand
// over, what is exact meanwhile, and how a stretch is stopped by force. An engine does not count
// instructions. So from the first hand-over on the stretch is *uncounted*: its position stands
// still where the software CPU left it, nothing may happen at a place inside of it, and it ends by
// a trap, which is an exact position again, or by force.
#pragma once

#include "cpu/core.h"

namespace node_mesh {

// Whether the engine could run user code from here: 64-bit mode, flat segments as every 64-bit
// kernel gives them, no stepping, and no limit inside of this stretch.
bool may_hand_over(const Core* c, Position limit);
// Asks the engine's policy how far the software CPU shall go first.
void plan_hand_over(Core* c);
// Lets the engine run; back at a boundary whose instruction the software CPU runs next.
void hand_over(Core* c);

// The stretch ends by itself, or by force.
void end_uncounted(Core* c);
// Makes `c->preemption` of an uncounted stretch; the position is then where counting stopped.
void note_forced_stop(Core* c);

// For accesses that something outside of the CPU can see: inside of an uncounted stretch that may
// be stopped by force it is, so that they come at a position.
void leave_uncounted(Core* c, const Insn* i);
inline void require_counted(Core* c, const Insn* i) {
  if (c->uncounted && c->preemptible) leave_uncounted(c, i);
}

void fetch_fpu(Core* c);
// Before anything reads or writes the FPU registers.
inline void bring_fpu(Core* c) {
  if (c->fpu_away) fetch_fpu(c);
}

}  // namespace node_mesh
