// FPREM and FPREM1 whose operands are 64 or more binary orders apart reduce by an amount that each
// vendor chooses; FBLD of digits above 9 is undefined. Both are defined here: a partial remainder
// reduces by 32 + (difference modulo 32) binary orders; a BCD digit is worth its value, whatever it
// is.
#include <bit>
#include <cstring>

#include "cpu/stub/stub_plan.h"
#include "cpu/stub/x87_arithmetic.h"
#include "cpu/stub/x87_state.h"

namespace node_mesh {
namespace {

constexpr int complete_below = 64;

// Whether the difference of the exponents is so large that only part of the work is done.
bool is_partial(const X87Image& image) {
  if (image.is_empty(0) || image.is_empty(1)) return false;
  for (const unsigned i : {0u, 1u}) {
    const X87Class c = x87_class(image.st[i]);
    if (c != X87Class::normal && c != X87Class::denormal) return false;
  }
  return x87_number(image.st[0]).exponent - x87_number(image.st[1]).exponent >= complete_below;
}

X87Register exact_register(bool negative, std::uint64_t significand, int exponent) {
  if (significand == 0) return x87_zero(negative);
  const int shift = std::countl_zero(significand);
  significand <<= shift;
  exponent -= shift;
  int raw = exponent + static_cast<int>(x87_bias);
  if (raw <= 0) {
    significand >>= 1 - raw;  // exact: the remainder is a multiple of the divisor's last bit
    raw = 0;
  }
  return {significand, static_cast<std::uint16_t>(raw | (negative ? 0x8000 : 0)), {}};
}

X87Register partial_remainder(const X87Register& dividend, const X87Register& divisor) {
  const X87Number a = x87_number(dividend), b = x87_number(divisor);
  const int difference = a.exponent - b.exponent;
  const int reduction = 32 + difference % 32;
  unsigned __int128 rest = a.significand;
  for (int i = 0; i < reduction; ++i)
    rest = (rest % b.significand) << 1;
  return exact_register(a.negative, static_cast<std::uint64_t>(rest % b.significand),
                        b.exponent + difference - reduction);
}

StubResult run_remainder(const Stub& stub, const StubOperands& operands) {
  FpuState& fpu = *operands.fpu;
  X87Image image = x87_image(fpu);
  if (image.exception_pending()) return StubResult::x87_exception;
  if (!is_partial(image)) return run_x87(stub, operands);
  image.status = static_cast<std::uint16_t>(image.status & ~x87_c1);
  const bool denormal =
      x87_class(image.st[0]) == X87Class::denormal || x87_class(image.st[1]) == X87Class::denormal;
  if (!denormal || x87_raise(image, x87_denormal)) {
    image.st[0] = partial_remainder(image.st[0], image.st[1]);
    image.status = static_cast<std::uint16_t>((image.status & ~(x87_c0 | x87_c3)) | x87_c2);
  }
  x87_set_image(fpu, image);
  return StubResult::ok;
}

X87Register from_bcd(const std::uint8_t* bytes) {
  std::uint64_t value = 0;
  for (int i = 8; i >= 0; --i)
    value = value * 100 + (bytes[i] >> 4) * 10u + (bytes[i] & 15u);
  return exact_register((bytes[9] & 0x80u) != 0, value, 63);
}

StubResult run_load_bcd(const Stub&, const StubOperands& operands) {
  FpuState& fpu = *operands.fpu;
  X87Image image = x87_image(fpu);
  if (image.exception_pending()) return StubResult::x87_exception;
  if (!image.is_empty(7)) {
    if (x87_raise_stack_fault(image, true)) x87_push(image, x87_default_nan);
  } else {
    image.status = static_cast<std::uint16_t>(image.status & ~x87_c1);
    x87_push(image, from_bcd(static_cast<const std::uint8_t*>(operands.memory)));
  }
  x87_set_image(fpu, image);
  return StubResult::ok;
}

}  // namespace

Stub::Entry x87_remainder_entry(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_FPREM:
    case ZYDIS_MNEMONIC_FPREM1:
      return run_remainder;
    case ZYDIS_MNEMONIC_FBLD:
      return run_load_bcd;
    default:
      return nullptr;
  }
}

}  // namespace node_mesh
