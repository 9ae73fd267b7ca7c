// XMM operands of direct handlers.
#pragma once

#include "cpu/decode.h"

namespace node_mesh {

inline unsigned xmm_index(const ZydisDecodedOperand& operand) {
  return static_cast<unsigned>(operand.reg.value - ZYDIS_REGISTER_XMM0);
}
inline bool is_xmm(const Decoding& d, unsigned index) {
  return d.is_register(index) && d.operands[index].reg.value >= ZYDIS_REGISTER_XMM0 &&
         d.operands[index].reg.value <= ZYDIS_REGISTER_XMM15;
}

}  // namespace node_mesh
