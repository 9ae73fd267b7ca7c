// The SSE2 integer instructions that string functions and hashes are made of, as direct handlers.
// The host's own instruction computes; none of them touches MXCSR or flags.
#include <emmintrin.h>

#include "cpu/decode.h"
#include "cpu/fpu_access.h"
#include "cpu/xmm.h"

namespace node_mesh {
namespace {

__m128i* vector_at(Core* c, unsigned index) {
  return reinterpret_cast<__m128i*>(c->fpu.xmm[index].data());
}

#define NM_VECTOR_OPERATIONS(on)                                                                 \
  on(PADDB, _mm_add_epi8) on(PADDW, _mm_add_epi16) on(PADDD, _mm_add_epi32)                      \
      on(PADDQ, _mm_add_epi64) on(PSUBB, _mm_sub_epi8) on(PSUBW, _mm_sub_epi16)                  \
          on(PSUBD, _mm_sub_epi32) on(PSUBQ, _mm_sub_epi64) on(PAND, _mm_and_si128)              \
              on(PANDN, _mm_andnot_si128) on(POR, _mm_or_si128) on(PXOR, _mm_xor_si128) on(      \
                  ANDPS, _mm_and_si128) on(ANDPD, _mm_and_si128) on(ANDNPS, _mm_andnot_si128)    \
                  on(ANDNPD, _mm_andnot_si128) on(ORPS, _mm_or_si128) on(ORPD, _mm_or_si128) on( \
                      XORPS, _mm_xor_si128) on(XORPD, _mm_xor_si128) on(PCMPEQB, _mm_cmpeq_epi8) \
                      on(PCMPEQW, _mm_cmpeq_epi16) on(PCMPEQD, _mm_cmpeq_epi32)                  \
                          on(PCMPGTB, _mm_cmpgt_epi8) on(PCMPGTW, _mm_cmpgt_epi16)               \
                              on(PCMPGTD, _mm_cmpgt_epi32) on(PMINUB, _mm_min_epu8)              \
                                  on(PMAXUB, _mm_max_epu8) on(PUNPCKLBW, _mm_unpacklo_epi8)      \
                                      on(PUNPCKLWD, _mm_unpacklo_epi16)                          \
                                          on(PUNPCKLDQ, _mm_unpacklo_epi32)                      \
                                              on(PUNPCKLQDQ, _mm_unpacklo_epi64)                 \
                                                  on(PUNPCKHBW, _mm_unpackhi_epi8)               \
                                                      on(PUNPCKHWD, _mm_unpackhi_epi16)          \
                                                          on(PUNPCKHDQ, _mm_unpackhi_epi32)      \
                                                              on(PUNPCKHQDQ, _mm_unpackhi_epi64) \
                                                                  on(PMULUDQ, _mm_mul_epu32)     \
                                                                      on(PMULLW, _mm_mullo_epi16)

#define NM_DEFINE_VECTOR(Name, intrinsic)                                                       \
  struct Vector##Name {                                                                         \
    [[gnu::always_inline]] static __m128i run(__m128i a, __m128i b) { return intrinsic(a, b); } \
  };
NM_VECTOR_OPERATIONS(NM_DEFINE_VECTOR)

template <class Op>
void vector_xx(Core* c, const Insn* i) {
  require_sse(c, i);
  __m128i* to = vector_at(c, i->reg);
  *to = Op::run(*to, *vector_at(c, i->src));
  NM_NEXT;
}
template <class Op, Ea kEa, bool kSlow>
[[gnu::noinline]] void vector_xm(Core* c, const Insn* i) {
  require_sse(c, i);
  const u64 va = effective_address<kEa>(c, i);
  if ((va & 15) != 0) [[unlikely]]
    raise_error(c, i, vector::gp, 0);
  NM_LOAD(__m128i, operand, va, (vector_xm<Op, kEa, true>));
  __m128i* to = vector_at(c, i->reg);
  *to = Op::run(*to, operand);
  NM_NEXT;
}
template <class Op>
Handler select_vector(Decoding& d) {
  if (!is_xmm(d, 0)) return nullptr;  // MMX
  d.out.reg = static_cast<u8>(xmm_index(d.operands[0]));
  if (is_xmm(d, 1)) {
    d.out.src = static_cast<u8>(xmm_index(d.operands[1]));
    return vector_xx<Op>;
  }
  if (!d.is_memory(1)) return nullptr;
  d.memory(1);
  return by_ea(d.ea, []<Ea kEa>() -> Handler { return vector_xm<Op, kEa, false>; });
}

void op_pmovmskb(Core* c, const Insn* i) {
  require_sse(c, i);
  set_reg<u32>(c, i->reg, static_cast<u32>(_mm_movemask_epi8(*vector_at(c, i->src))));
  NM_NEXT;
}
Handler select_pmovmskb(Decoding& d) {
  if (!is_xmm(d, 1)) return nullptr;
  d.out.reg = d.gpr(0);
  d.out.src = static_cast<u8>(xmm_index(d.operands[1]));
  return op_pmovmskb;
}

void op_pshufd(Core* c, const Insn* i) {
  require_sse(c, i);
  u32 from[4], to[4];
  std::memcpy(from, vector_at(c, i->src), sizeof from);
  for (unsigned k = 0; k < 4; ++k)
    to[k] = from[(i->imm >> (2 * k)) & 3];
  std::memcpy(vector_at(c, i->reg), to, sizeof to);
  NM_NEXT;
}
Handler select_pshufd(Decoding& d) {
  if (!is_xmm(d, 0) || !is_xmm(d, 1)) return nullptr;
  d.out.reg = static_cast<u8>(xmm_index(d.operands[0]));
  d.out.src = static_cast<u8>(xmm_index(d.operands[1]));
  d.out.imm = d.immediate(2);
  return op_pshufd;
}

// Shifts by an immediate; counts beyond the element's width give zeros (or the sign), as on the
// host with the count in a register.
#define NM_VECTOR_SHIFTS(on)                                                     \
  on(PSLLW, _mm_sll_epi16) on(PSLLD, _mm_sll_epi32) on(PSLLQ, _mm_sll_epi64)     \
      on(PSRLW, _mm_srl_epi16) on(PSRLD, _mm_srl_epi32) on(PSRLQ, _mm_srl_epi64) \
          on(PSRAW, _mm_sra_epi16) on(PSRAD, _mm_sra_epi32)
#define NM_DEFINE_SHIFT(Name, intrinsic)                                     \
  struct Shift##Name {                                                       \
    [[gnu::always_inline]] static __m128i run(__m128i a, u64 count) {        \
      return intrinsic(a, _mm_cvtsi64_si128(static_cast<long long>(count))); \
    }                                                                        \
  };
NM_VECTOR_SHIFTS(NM_DEFINE_SHIFT)

template <class Op>
void vector_shift(Core* c, const Insn* i) {
  require_sse(c, i);
  __m128i* to = vector_at(c, i->reg);
  *to = Op::run(*to, i->imm);
  NM_NEXT;
}
// Whole-register shifts by bytes.
template <bool kLeft>
void byte_shift(Core* c, const Insn* i) {
  require_sse(c, i);
  u128 value;
  std::memcpy(&value, vector_at(c, i->reg), sizeof value);
  const auto bits = static_cast<unsigned>(i->imm * 8);
  value = bits >= 128 ? u128{0} : (kLeft ? value << bits : value >> bits);
  std::memcpy(vector_at(c, i->reg), &value, sizeof value);
  NM_NEXT;
}
template <Handler kHandler>
Handler select_shift(Decoding& d) {
  if (!is_xmm(d, 0) || !d.is_immediate(1)) return nullptr;
  d.out.reg = static_cast<u8>(xmm_index(d.operands[0]));
  d.out.imm = d.immediate(1) & 0xff;
  return kHandler;
}

}  // namespace

void register_sse_integer(SelectorTable& table) {
#define NM_REGISTER_VECTOR(Name, intrinsic) \
  table[ZYDIS_MNEMONIC_##Name] = select_vector<Vector##Name>;
  NM_VECTOR_OPERATIONS(NM_REGISTER_VECTOR)
#define NM_REGISTER_SHIFT(Name, intrinsic) \
  table[ZYDIS_MNEMONIC_##Name] = select_shift<vector_shift<Shift##Name>>;
  NM_VECTOR_SHIFTS(NM_REGISTER_SHIFT)
  table[ZYDIS_MNEMONIC_PSLLDQ] = select_shift<byte_shift<true>>;
  table[ZYDIS_MNEMONIC_PSRLDQ] = select_shift<byte_shift<false>>;
  table[ZYDIS_MNEMONIC_PMOVMSKB] = select_pmovmskb;
  table[ZYDIS_MNEMONIC_PSHUFD] = select_pshufd;
}

}  // namespace node_mesh
