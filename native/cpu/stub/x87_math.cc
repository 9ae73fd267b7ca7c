#include "cpu/stub/x87_math.h"

#include <array>
#include <bit>
#include <cstring>

namespace node_mesh {
namespace {

using Wide = __float128;
using Wide128 = unsigned __int128;

constexpr int wide_bias = 16383;
constexpr int wide_fraction_bits = 112;

// (high:low) * 2^exponent
Wide wide_constant(std::uint64_t high, std::uint64_t low, int exponent) {
  Wide value = static_cast<Wide>(high) * 0x1p64 + static_cast<Wide>(low);
  for (; exponent < -64; exponent += 64)
    value *= 0x1p-64;
  return value * static_cast<Wide>(
                     std::bit_cast<double>(static_cast<std::uint64_t>(1023 + exponent) << 52));
}

Wide pi() { return wide_constant(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1, -126); }
Wide ln_2() { return wide_constant(0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af, -128); }

// Its magnitude is in [1, 2).
Wide mantissa(const X87Number& x) {
  const Wide value = static_cast<Wide>(x.significand) * 0x1p-63;
  return x.negative ? -value : value;
}

Wide scaled(Wide value, int exponent) {
  for (; exponent < -1000; exponent += 1000)
    value *= 0x1p-1000;
  return value * static_cast<Wide>(
                     std::bit_cast<double>(static_cast<std::uint64_t>(1023 + exponent) << 52));
}

// value * 2^exponent; `value` is zero or a normal number.
X87Unrounded unrounded(Wide value, int exponent, bool inexact = true) {
  Wide128 bits;
  std::memcpy(&bits, &value, sizeof bits);
  X87Unrounded result{};
  result.negative = bits >> 127 != 0;
  result.inexact = inexact;
  const auto raw = static_cast<int>((bits >> wide_fraction_bits) & 0x7fffu);
  if (raw == 0) return result;
  const Wide128 one = 1;
  const Wide128 significand =
      ((bits & ((one << wide_fraction_bits) - 1)) | one << wide_fraction_bits) << 15;
  result.high = static_cast<std::uint64_t>(significand >> 64);
  result.low = static_cast<std::uint64_t>(significand);
  result.exponent = raw - wide_bias + exponent;
  return result;
}

// sum of x^(2k+1)/(2k+1), with alternating signs for the arc tangent
Wide odd_series(Wide x, unsigned terms, bool alternating) {
  const Wide square = alternating ? -x * x : x * x;
  Wide sum = 0;
  for (unsigned k = terms; k-- > 0;)
    sum = sum * square + 1 / static_cast<Wide>(2 * k + 1);
  return x * sum;
}

// log2((1 + s) / (1 - s)) for |s| <= 0.1716
Wide log2_ratio(Wide s) { return 2 * odd_series(s, 24, false) / ln_2(); }

// atan for 0 <= t <= 1: nearest sixteenth from a table, the rest by its series.
Wide arc_tangent(Wide t) {
  static const std::array<Wide, 17> table = [] {
    std::array<Wide, 17> angles{};
    for (int k = 1; k <= 16; ++k) {
      const Wide step = static_cast<Wide>(16) / static_cast<Wide>(256 + k * (k - 1));
      angles[static_cast<unsigned>(k)] =
          angles[static_cast<unsigned>(k - 1)] + odd_series(step, 20, true);
    }
    return angles;
  }();
  const int k = static_cast<int>(t * 16 + static_cast<Wide>(0.5));
  const Wide near = static_cast<Wide>(k) / 16;
  return table[static_cast<unsigned>(k)] + odd_series((t - near) / (1 + t * near), 14, true);
}

struct Reduced {
  Wide rest;  // |rest| <= pi/4
  unsigned quadrant;
};

// pi/2 = 0xC90FDAA22168C234C * 2^-67: pi to 66 significant bits.
Reduced reduce(const X87Number& x) {
  const Wide128 half_pi = static_cast<Wide128>(0xc90fdaa22168c234u) << 4 | 0xcu;
  const int shift = x.exponent + 4;  // |x| = significand << shift, in units of 2^-67
  if (shift < 0) {
    return {scaled(mantissa(x), x.exponent), 0};
  }
  Wide128 rest = x.significand;
  unsigned quadrant = static_cast<unsigned>(rest / half_pi);
  rest %= half_pi;
  for (int i = 0; i < shift; ++i) {
    rest <<= 1;
    quadrant <<= 1;
    if (rest >= half_pi) {
      rest -= half_pi;
      ++quadrant;
    }
  }
  Wide value = static_cast<Wide>(rest);
  if (rest * 2 > half_pi) {
    value = -static_cast<Wide>(half_pi - rest);
    ++quadrant;
  }
  value = value * 0x1p-67;
  if (x.negative) return {-value, (0u - quadrant) & 3u};
  return {value, quadrant & 3u};
}

// x - x^3/3! + ... and 1 - x^2/2! + ...
Wide sine_series(Wide x) {
  Wide sum = 1;
  for (unsigned k = 16; k > 0; --k)
    sum = 1 - sum * x * x / static_cast<Wide>(2 * k * (2 * k + 1));
  return x * sum;
}

Wide cosine_series(Wide x) {
  Wide sum = 1;
  for (unsigned k = 16; k > 0; --k)
    sum = 1 - sum * x * x / static_cast<Wide>(2 * k * (2 * k - 1));
  return sum;
}

// Below this the first term of a series is the result to all bits that count.
constexpr int tiny_exponent = -70;

}  // namespace

X87Unrounded x87_exp2_minus_1(const X87Number& x) {
  if (x.exponent < tiny_exponent) return unrounded(mantissa(x) * ln_2(), x.exponent);
  const Wide y = scaled(mantissa(x), x.exponent) * ln_2();
  Wide sum = 1;
  for (unsigned k = 34; k > 1; --k)
    sum = 1 + sum * y / static_cast<Wide>(k);
  const bool exact = x.exponent == 0;  // +-1: 1 and -1/2
  return exact ? unrounded(x.negative ? -0.5 : 1, 0, false) : unrounded(y * sum, 0);
}

X87Unrounded x87_y_log2(const X87Number& x, const X87Number& y) {
  Wide m = static_cast<Wide>(x.significand) * 0x1p-63;
  int exponent = x.exponent;
  if (m > static_cast<Wide>(1.4142135623730951)) {
    m *= static_cast<Wide>(0.5);
    ++exponent;
  }
  const Wide log = static_cast<Wide>(exponent) + log2_ratio((m - 1) / (m + 1));
  return unrounded(mantissa(y) * log, y.exponent, m != 1);
}

X87Unrounded x87_y_log2_plus_1(const X87Number& x, const X87Number& y) {
  if (x.exponent < tiny_exponent) {
    return unrounded(mantissa(x) * mantissa(y) / ln_2(), x.exponent + y.exponent);
  }
  if (x.exponent < -2) {  // |x| < 1/4
    const Wide value = scaled(mantissa(x), x.exponent);
    return unrounded(mantissa(y) * log2_ratio(value / (2 + value)), y.exponent);
  }
  if (x.exponent > 120) return x87_y_log2(x, y);
  Wide m =
      1 + (x.exponent < 0 ? scaled(mantissa(x), x.exponent)
                          : mantissa(x) * static_cast<Wide>(static_cast<Wide128>(1) << x.exponent));
  int exponent = 0;
  for (; m > static_cast<Wide>(1.4142135623730951); ++exponent)
    m *= static_cast<Wide>(0.5);
  for (; m < static_cast<Wide>(0.7071067811865476); --exponent)
    m *= 2;
  const Wide log = static_cast<Wide>(exponent) + log2_ratio((m - 1) / (m + 1));
  return unrounded(mantissa(y) * log, y.exponent, m != 1);
}

X87Unrounded x87_angle(const X87Number& y, const X87Number& x) {
  const Wide ym = static_cast<Wide>(y.significand), xm = static_cast<Wide>(x.significand);
  const int difference = y.exponent - x.exponent;
  Wide angle = 0;
  if (difference > 120) {
    angle = pi() / 2;
  } else if (difference < -120) {
    if (!x.negative) {
      const Wide ratio = ym / xm;
      return unrounded(y.negative ? -ratio : ratio, difference);
    }
    angle = pi();
  } else {
    const Wide a = difference >= 0 ? ym : scaled(ym, difference);
    const Wide b = difference >= 0 ? scaled(xm, -difference) : xm;
    angle = a > b ? pi() / 2 - arc_tangent(b / a) : arc_tangent(a / b);
    if (x.negative) angle = pi() - angle;
  }
  return unrounded(y.negative ? -angle : angle, 0);
}

X87SineCosine x87_sine_cosine(const X87Number& x) {
  if (x.exponent < tiny_exponent) {
    const X87Unrounded same = unrounded(mantissa(x), x.exponent);
    return {same, unrounded(1, 0), same};
  }
  const Reduced reduced = reduce(x);
  const Wide sine = sine_series(reduced.rest), cosine = cosine_series(reduced.rest);
  const bool swap = (reduced.quadrant & 1u) != 0;
  const Wide s = swap ? cosine : sine, c = swap ? sine : cosine;
  const Wide signed_sine = reduced.quadrant >= 2 ? -s : s;
  const Wide signed_cosine = reduced.quadrant == 1 || reduced.quadrant == 2 ? -c : c;
  return {unrounded(signed_sine, 0), unrounded(signed_cosine, 0),
          unrounded(signed_sine / signed_cosine, 0)};
}

}  // namespace node_mesh
