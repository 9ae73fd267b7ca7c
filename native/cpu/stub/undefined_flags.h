// Flags and results that the architecture leaves undefined, and in which CPU vendors differ. Copies
// of one machine run on different CPUs, so ours are defined, here, for stubs and for the CPU's own
// handlers alike:
//
//   AND OR XOR TEST         AF = 0
//   SHL SHR SAR             AF = 0 when the count is not 0; OF as below for every count; CF of an
//                           8- or 16-bit shift by more than its width: 0 for SHL and SHR, the sign
//                           for SAR
//   ROL RCL SHL SHLD        OF = (top bit of the result) ^ CF, for every count but 0
//   ROR RCR SHR SAR SHRD    OF = (top bit of the result) ^ (bit below it), for every count but 0
//   SHLD SHRD               AF = 0 when the count is not 0; 16-bit with a count above 16: the
//                           source rotates on (its bits follow themselves), CF = 0
//   MUL IMUL                SF ZF AF PF unchanged
//   DIV IDIV                all flags unchanged
//   BT BTS BTR BTC          OF SF ZF AF PF unchanged
//   BSF BSR                 ZF as defined, CF OF SF AF PF = 0; a source of zero leaves the whole
//                           64-bit destination unchanged
//   BSWAP r16               the register's low 16 bits become 0
//   x87 C0 C2 C3            unchanged where undefined; C1 = 0 after FCMOVcc, FCOMI and its kind,
//                           FFREE and FFREEP
#pragma once

#include <cstdint>

namespace node_mesh {

inline constexpr std::uint64_t flag_cf = 0x001, flag_pf = 0x004, flag_af = 0x010, flag_zf = 0x040,
                               flag_sf = 0x080, flag_of = 0x800;

// OF of left shifts and rotates from the result's top bit and CF.
constexpr std::uint64_t overflow_of_left_shift(std::uint64_t result, unsigned width,
                                               std::uint64_t flags) {
  return (((result >> (width - 1)) ^ flags) & 1u) != 0 ? flag_of : 0;
}

// OF of right shifts and rotates from the result's two top bits.
constexpr std::uint64_t overflow_of_right_shift(std::uint64_t result, unsigned width) {
  return (((result >> (width - 1)) ^ (result >> (width - 2))) & 1u) != 0 ? flag_of : 0;
}

}  // namespace node_mesh
