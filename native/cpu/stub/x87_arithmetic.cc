#include "cpu/stub/x87_arithmetic.h"

#include <bit>

namespace node_mesh {
namespace {

constexpr std::uint64_t integer_bit = std::uint64_t{1} << 63;
constexpr std::uint64_t quiet_bit = std::uint64_t{1} << 62;
constexpr unsigned exponent_mask = 0x7fff;
// An unmasked overflow or underflow delivers the result with its exponent moved by this much.
constexpr int exponent_adjustment = 24576;
constexpr int exponent_max = 16383, exponent_min = -16382;

constexpr unsigned round_down = 1, round_up = 2, round_to_zero = 3;

X87Register quieted(X87Register value) {
  value.significand |= quiet_bit;
  return value;
}

bool unmasked(const X87Image& image, unsigned flag) { return (image.control & flag) == 0; }

bool away_from_zero(unsigned rounding, bool negative, bool half, bool sticky, bool odd) {
  switch (rounding) {
    case round_down:
      return negative && (half || sticky);
    case round_up:
      return !negative && (half || sticky);
    case round_to_zero:
      return false;
    default:
      return half && (sticky || odd);
  }
}

void shift_right(std::uint64_t& high, std::uint64_t& low, bool& sticky, unsigned count) {
  for (; count >= 64; count -= 64) {
    sticky = sticky || low != 0;
    low = high;
    high = 0;
    if (low == 0 && high == 0) return;
  }
  if (count == 0) return;
  sticky = sticky || (low << (64 - count)) != 0;
  low = low >> count | high << (64 - count);
  high >>= count;
}

X87Register overflowed(X87Image& image, unsigned rounding, bool negative) {
  const bool to_infinity =
      rounding == 0 || (rounding == round_down && negative) || (rounding == round_up && !negative);
  if (to_infinity) {
    image.status |= x87_c1;
    return x87_infinity(negative);
  }
  return {~std::uint64_t{0}, static_cast<std::uint16_t>(0x7ffe | (negative ? 0x8000 : 0)), {}};
}

}  // namespace

X87Class x87_class(const X87Register& value) {
  const unsigned exponent = value.exponent & exponent_mask;
  if (exponent == 0) {
    return value.significand == 0 ? X87Class::zero : X87Class::denormal;
  }
  if ((value.significand & integer_bit) == 0) return X87Class::unsupported;
  if (exponent != exponent_mask) return X87Class::normal;
  if (value.significand == integer_bit) return X87Class::infinity;
  return (value.significand & quiet_bit) != 0 ? X87Class::quiet_nan : X87Class::signalling_nan;
}

X87Register x87_zero(bool negative) {
  return {0, static_cast<std::uint16_t>(negative ? 0x8000 : 0), {}};
}

X87Register x87_infinity(bool negative) {
  return {integer_bit, static_cast<std::uint16_t>(negative ? 0xffff : 0x7fff), {}};
}

X87Number x87_number(const X87Register& value) {
  const int raw = value.exponent & exponent_mask;
  const int shift = std::countl_zero(value.significand);
  const int exponent = (raw == 0 ? exponent_min : raw - static_cast<int>(x87_bias)) - shift;
  return {x87_negative(value), value.significand << shift, exponent};
}

bool x87_raise(X87Image& image, unsigned flags) {
  image.status = static_cast<std::uint16_t>(image.status | flags);
  const unsigned forbidding = x87_invalid | x87_denormal | x87_zero_divide;
  return (flags & forbidding & static_cast<unsigned>(~image.control)) == 0;
}

bool x87_propagate(X87Image& image, const X87Register& a, X87Register& result) {
  const X87Class c = x87_class(a);
  result = c == X87Class::unsupported ? x87_default_nan : quieted(a);
  return c == X87Class::quiet_nan || x87_raise(image, x87_invalid);
}

bool x87_propagate(X87Image& image, const X87Register& a, const X87Register& b,
                   X87Register& result) {
  const X87Class ca = x87_class(a), cb = x87_class(b);
  if (ca == X87Class::unsupported || cb == X87Class::unsupported) {
    result = x87_default_nan;
    return x87_raise(image, x87_invalid);
  }
  const bool signalling = ca == X87Class::signalling_nan || cb == X87Class::signalling_nan;
  if (!x87_is_nan(cb)) {
    result = quieted(a);
  } else if (!x87_is_nan(ca)) {
    result = quieted(b);
  } else if (ca != cb) {
    result = ca == X87Class::quiet_nan ? a : b;
  } else if (a.significand != b.significand) {
    result = quieted(a.significand > b.significand ? a : b);
  } else {
    result = quieted(x87_negative(a) ? b : a);
  }
  return !signalling || x87_raise(image, x87_invalid);
}

bool x87_raise_stack_fault(X87Image& image, bool overflow) {
  image.status = static_cast<std::uint16_t>((image.status & ~x87_c1) | x87_stack_fault |
                                            (overflow ? x87_c1 : 0));
  return x87_raise(image, x87_invalid);
}

X87Register x87_round(X87Image& image, const X87Unrounded& value) {
  const unsigned rounding = (image.control >> 10) & 3u;
  std::uint64_t high = value.high, low = value.low;
  int exponent = value.exponent;
  bool sticky = value.inexact;
  const bool tiny = exponent < exponent_min;
  const bool inexact_before = sticky || low != 0;
  if (tiny && unmasked(image, x87_underflow)) {
    image.status |= x87_underflow;
    exponent += exponent_adjustment;
  } else if (tiny) {
    const auto count = static_cast<unsigned>(exponent_min - exponent);
    shift_right(high, low, sticky, count > 200 ? 200 : count);
    exponent = exponent_min;
  }
  const bool half = (low & integer_bit) != 0;
  const bool rest = (low << 1) != 0 || sticky;
  const bool inexact = half || rest || inexact_before;
  if (away_from_zero(rounding, value.negative, half, rest, (high & 1u) != 0)) {
    image.status |= x87_c1;
    if (++high == 0) {
      high = integer_bit;
      ++exponent;
    }
  }
  if (inexact) image.status |= x87_inexact;
  if (tiny && inexact) image.status |= x87_underflow;
  if (exponent > exponent_max) {
    image.status |= x87_overflow;
    if (!unmasked(image, x87_overflow)) {
      image.status = static_cast<std::uint16_t>((image.status & ~x87_c1) | x87_inexact);
      return overflowed(image, rounding, value.negative);
    }
    exponent -= exponent_adjustment;
  }
  const bool subnormal = (high & integer_bit) == 0;
  const unsigned raw = subnormal ? 0u : static_cast<unsigned>(exponent + int{x87_bias});
  return {high, static_cast<std::uint16_t>(raw | (value.negative ? 0x8000u : 0u)), {}};
}

}  // namespace node_mesh
