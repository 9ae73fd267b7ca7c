// What SSE leaves to the implementation, in software: the reciprocal estimates differ between
// vendors (within 1.5 * 2^-12), and the dot products between NaNs.
//
// Estimates: ours is the correctly computed 1/x or 1/sqrt(x) rounded to 12 fraction bits, ties up,
// so its relative error is at most 2^-13. Denormal operands count as zero, results below the
// smallest normal number are zero; no flag is raised and MXCSR has no effect, as the manuals say.
#include <emmintrin.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "cpu/stub/stub_plan.h"

namespace node_mesh {
namespace {

constexpr std::uint32_t sign_bit = 0x80000000, exponent_bits = 0x7f800000, quiet_bit = 0x00400000;
constexpr std::uint32_t default_nan = 0xffc00000, infinity = 0x7f800000;
constexpr std::uint32_t smallest_normal = 0x00800000;

bool is_nan(std::uint32_t value) { return (value & ~sign_bit) > infinity; }
bool counts_as_zero(std::uint32_t value) { return (value & exponent_bits) == 0; }

// `value` is positive and normal or above as a double.
std::uint32_t round_to_12_bits(double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  const std::uint64_t rounded = (bits + (std::uint64_t{1} << 39)) >> 40 << 40;
  const auto exponent = static_cast<int>(rounded >> 52) - 1023 + 127;
  if (exponent <= 0) return 0;
  const auto fraction = static_cast<std::uint32_t>(rounded >> 29) & 0x7fffffu;
  return static_cast<std::uint32_t>(exponent) << 23 | fraction;
}

std::uint32_t reciprocal(std::uint32_t value) {
  if (is_nan(value)) return value | quiet_bit;
  const std::uint32_t sign = value & sign_bit;
  if (counts_as_zero(value)) return sign | infinity;
  if ((value & ~sign_bit) == infinity) return sign;
  return sign | round_to_12_bits(1.0 / std::bit_cast<float>(value & ~sign_bit));
}

std::uint32_t reciprocal_root(std::uint32_t value) {
  if (is_nan(value)) return value | quiet_bit;
  if (counts_as_zero(value)) return (value & sign_bit) | infinity;
  if ((value & sign_bit) != 0) return default_nan;
  if (value == infinity) return 0;
  return round_to_12_bits(1.0 / std::sqrt(static_cast<double>(std::bit_cast<float>(value))));
}

unsigned destination(const StubShape& shape) { return shape.reg | (shape.rex_r ? 8u : 0u); }

// The ModRM.rm operand: a register or the bounce buffer.
const void* source(const StubShape& shape, const StubOperands& operands) {
  if (shape.memory_form) return operands.memory;
  return operands.fpu->xmm[shape.rm | (shape.rex_b ? 8u : 0u)].data();
}

__m128 load_lanes(const void* from) { return _mm_loadu_ps(static_cast<const float*>(from)); }

// Lanes that are not selected multiply zero by zero, which raises nothing.
StubResult run_dot_single(const Stub& stub, const StubOperands& operands) {
  const StubShape& shape = plan_of(stub).shape;
  auto& to = operands.fpu->xmm[destination(shape)];
  const unsigned select = shape.immediate[0];
  const __m128i bits = _mm_set_epi32(0x80, 0x40, 0x20, 0x10);
  const __m128 chosen = _mm_castsi128_ps(
      _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32(static_cast<int>(select)), bits), bits));
  const __m128 products = _mm_mul_ps(_mm_and_ps(load_lanes(to.data()), chosen),
                                     _mm_and_ps(load_lanes(source(shape, operands)), chosen));
  const __m128 pairs =
      _mm_add_ps(products, _mm_shuffle_ps(products, products, _MM_SHUFFLE(2, 3, 0, 1)));
  const __m128 sum = _mm_add_ps(pairs, _mm_shuffle_ps(pairs, pairs, _MM_SHUFFLE(0, 0, 2, 2)));
  const __m128i lanes = _mm_set_epi32(8, 4, 2, 1);
  const __m128 stored = _mm_castsi128_ps(
      _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32(static_cast<int>(select)), lanes), lanes));
  const __m128 all = _mm_shuffle_ps(sum, sum, 0);
  _mm_storeu_ps(reinterpret_cast<float*>(to.data()), _mm_and_ps(all, stored));
  return StubResult::ok;
}

StubResult run_dot_double(const Stub& stub, const StubOperands& operands) {
  const StubShape& shape = plan_of(stub).shape;
  auto& to = operands.fpu->xmm[destination(shape)];
  const unsigned select = shape.immediate[0];
  const __m128d chosen = _mm_castsi128_pd(
      _mm_set_epi64x((select & 0x20) != 0 ? -1 : 0, (select & 0x10) != 0 ? -1 : 0));
  const __m128d left = _mm_castps_pd(load_lanes(to.data()));
  const __m128d right = _mm_castps_pd(load_lanes(source(shape, operands)));
  const __m128d products = _mm_mul_pd(_mm_and_pd(left, chosen), _mm_and_pd(right, chosen));
  const __m128d sum = _mm_add_sd(products, _mm_unpackhi_pd(products, products));
  const __m128d stored =
      _mm_castsi128_pd(_mm_set_epi64x((select & 2) != 0 ? -1 : 0, (select & 1) != 0 ? -1 : 0));
  const __m128d result = _mm_and_pd(_mm_unpacklo_pd(sum, sum), stored);
  _mm_storeu_pd(reinterpret_cast<double*>(to.data()), result);
  return StubResult::ok;
}

StubResult convert_integer_pair(const Stub& stub, const StubOperands& operands) {
  auto& to = operands.fpu->xmm[destination(plan_of(stub).shape)];
  const __m128i integers = _mm_loadl_epi64(static_cast<const __m128i*>(operands.memory));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to.data()),
                   _mm_castps_si128(_mm_cvtepi32_ps(integers)));
  return StubResult::ok;
}

}  // namespace

StubResult run_integer_pair(const Stub& stub, const StubOperands& operands) {
  Stub inner = stub;
  inner.code = convert_integer_pair;
  return run_simd_float(inner, operands);
}

StubResult run_estimate(const Stub& stub, const StubOperands& operands) {
  const StubPlan& plan = plan_of(stub);
  const bool root =
      plan.mnemonic == ZYDIS_MNEMONIC_RSQRTPS || plan.mnemonic == ZYDIS_MNEMONIC_RSQRTSS;
  const unsigned lanes = plan.shape.repeat_prefix == 0xf3 ? 1 : 4;
  std::uint32_t values[4] = {};
  std::memcpy(values, source(plan.shape, operands), 4 * lanes);
  for (unsigned i = 0; i < lanes; ++i) {
    values[i] = root ? reciprocal_root(values[i]) : reciprocal(values[i]);
  }
  std::memcpy(operands.fpu->xmm[destination(plan.shape)].data(), values, 4 * lanes);
  return StubResult::ok;
}

StubResult run_dot_product(const Stub& stub, const StubOperands& operands) {
  // run_simd_float runs "the code" under the guest's MXCSR: here it is one of the above.
  Stub inner = stub;
  inner.code = plan_of(stub).mnemonic == ZYDIS_MNEMONIC_DPPS ? run_dot_single : run_dot_double;
  return run_simd_float(inner, operands);
}

}  // namespace node_mesh
