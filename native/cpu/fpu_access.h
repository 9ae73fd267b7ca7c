// When floating point and vector instructions may run: #UD and #NM by CR0 and CR4.
#pragma once

#include "cpu/core.h"
#include "cpu/exceptions.h"
#include "cpu/user_stretch.h"

namespace node_mesh {

inline void require_sse(Core* c, const Insn* i) {
  if (!c->sse_blocked) [[likely]]
    return;
  bring_fpu(c);
  if (!c->sse_blocked) return;
  if ((c->cr0 & cr0::em) || !(c->cr4 & cr4::osfxsr)) raise(c, i, vector::ud);
  raise(c, i, vector::nm);
}
inline void require_mmx(Core* c, const Insn* i) {
  bring_fpu(c);
  if (c->cr0 & cr0::em) raise(c, i, vector::ud);
  if (c->cr0 & cr0::ts) raise(c, i, vector::nm);
}
inline void require_x87(Core* c, const Insn* i) {
  bring_fpu(c);
  if (c->cr0 & (cr0::em | cr0::ts)) raise(c, i, vector::nm);
}

}  // namespace node_mesh
