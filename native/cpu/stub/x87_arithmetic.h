// What the software x87 instructions share: operand classes, NaN rules, stack faults, and rounding
// into the extended format with its exceptions, masked or not.
#pragma once

#include <cstdint>

#include "cpu/stub/x87_state.h"

namespace node_mesh {

enum class X87Class : std::uint8_t {
  zero,
  denormal,
  normal,
  infinity,
  quiet_nan,
  signalling_nan,
  unsupported
};

inline constexpr X87Register x87_default_nan{0xc000000000000000, 0xffff, {}};

inline constexpr unsigned x87_bias = 16383;

inline bool x87_negative(const X87Register& value) { return (value.exponent >> 15) != 0; }
X87Class x87_class(const X87Register& value);
inline bool x87_is_nan(X87Class c) {
  return c == X87Class::quiet_nan || c == X87Class::signalling_nan;
}
X87Register x87_zero(bool negative);
X87Register x87_infinity(bool negative);

// A finite non-zero value as significand * 2^(exponent - 63), its top bit set.
struct X87Number {
  bool negative;
  std::uint64_t significand;
  int exponent;
};
X87Number x87_number(const X87Register& value);

// Records exceptions; false: one of them is unmasked and forbids the result to be written
// (invalid operation, denormal operand, division by zero).
bool x87_raise(X87Image& image, unsigned flags);

// The result of an operation on NaNs or unsupported values; raises invalid where due.
// nullopt-like: returns false when the exception is unmasked.
bool x87_propagate(X87Image& image, const X87Register& a, X87Register& result);
bool x87_propagate(X87Image& image, const X87Register& a, const X87Register& b,
                   X87Register& result);

// Stack underflow (`overflow` false) or overflow: invalid and stack fault, C1 tells which.
bool x87_raise_stack_fault(X87Image& image, bool overflow);

// A result before rounding: (high:low as a 128-bit integer with its top bit set)
// * 2^(exponent - 127). `inexact` says that more bits would follow.
struct X87Unrounded {
  bool negative;
  std::uint64_t high, low;
  int exponent;
  bool inexact;
};
// Rounds by the control word to 64 bits (precision control does not apply), raises overflow,
// underflow and inexact, sets C1 when the magnitude was rounded up.
X87Register x87_round(X87Image& image, const X87Unrounded& value);

}  // namespace node_mesh
