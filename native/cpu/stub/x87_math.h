// The x87 transcendental functions in 113-bit software floating point: the same bits on every host.
// Errors stay far below half a unit of the 64-bit result. Arguments are finite and not zero;
// special cases are the caller's.
#pragma once

#include "cpu/stub/x87_arithmetic.h"

namespace node_mesh {

// 2^x - 1 for |x| <= 1.
X87Unrounded x87_exp2_minus_1(const X87Number& x);
// y * log2(x) for x > 0; y * log2(1 + x) for x > -1. The result may be exactly zero: then `high`
// is zero.
X87Unrounded x87_y_log2(const X87Number& x, const X87Number& y);
X87Unrounded x87_y_log2_plus_1(const X87Number& x, const X87Number& y);
// The angle of the point (x, y).
X87Unrounded x87_angle(const X87Number& y, const X87Number& x);
// For |x| < 2^63. Multiples of pi/2 are taken off with pi as 66 bits, as the manuals describe.
struct X87SineCosine {
  X87Unrounded sine, cosine, tangent;
};
X87SineCosine x87_sine_cosine(const X87Number& x);

}  // namespace node_mesh
