// Handlers that the decoder places where there is no instruction to run.
#include "cpu/decode.h"

namespace node_mesh {

void op_undefined(Core* c, const Insn* i) { raise(c, i, vector::ud); }
void op_too_long(Core* c, const Insn* i) { raise_error(c, i, vector::gp, 0); }

}  // namespace node_mesh
