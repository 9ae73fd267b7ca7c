// The transcendental instructions of the x87: the stack, the special operands and the exceptions
// around the functions of x87_math.h.
#include "cpu/stub/stub_plan.h"
#include "cpu/stub/x87_arithmetic.h"
#include "cpu/stub/x87_math.h"
#include "cpu/stub/x87_state.h"

namespace node_mesh {
namespace {

const X87Register one{std::uint64_t{1} << 63, x87_bias, {}};
// Operands of FSIN and its kind from 2^63 on are left alone.
constexpr int reducible_exponent = 63;

bool finite_nonzero(X87Class c) { return c == X87Class::normal || c == X87Class::denormal; }
bool nan_or_unsupported(X87Class c) { return x87_is_nan(c) || c == X87Class::unsupported; }

X87Register rounded(X87Image& image, const X87Unrounded& value) {
  return value.high == 0 ? x87_zero(value.negative) : x87_round(image, value);
}

using Compute = void (*)(X87Image&);

// Every instruction here waits and clears C1 before it computes.
template <Compute compute>
StubResult run(const Stub&, const StubOperands& operands) {
  X87Image image = x87_image(*operands.fpu);
  if (image.exception_pending()) return StubResult::x87_exception;
  image.status = static_cast<std::uint16_t>(image.status & ~x87_c1);
  compute(image);
  x87_set_image(*operands.fpu, image);
  return StubResult::ok;
}

void fill(X87Image& image, unsigned index, const X87Register& value) {
  image.st[index] = value;
  image.valid = static_cast<std::uint8_t>(image.valid | 1u << ((image.top() + index) & 7u));
}

void exp2_minus_1(X87Image& image) {
  X87Register& st0 = image.st[0];
  if (image.is_empty(0)) {
    if (x87_raise_stack_fault(image, false)) fill(image, 0, x87_default_nan);
    return;
  }
  const X87Class c = x87_class(st0);
  X87Register result = st0;
  if (nan_or_unsupported(c)) {
    if (x87_propagate(image, st0, result)) st0 = result;
    return;
  }
  if (c == X87Class::infinity) {
    if (x87_negative(st0)) st0 = {one.significand, 0x8000u | x87_bias, {}};
    return;
  }
  if (c == X87Class::zero) return;
  const X87Number x = x87_number(st0);
  const bool in_range = x.exponent < 0 || (x.exponent == 0 && x.significand == one.significand);
  if (!in_range) return;  // undefined: ours is the operand itself
  if (c == X87Class::denormal && !x87_raise(image, x87_denormal)) return;
  st0 = rounded(image, x87_exp2_minus_1(x));
}

enum class Wanted { sine, cosine, both, tangent };

// Sets C2 and returns false when the operand is too large to be reduced.
bool reducible(X87Image& image, const X87Register& value) {
  image.status = static_cast<std::uint16_t>(image.status & ~x87_c2);
  if (finite_nonzero(x87_class(value)) && x87_number(value).exponent >= reducible_exponent) {
    image.status |= x87_c2;
    return false;
  }
  return true;
}

// Both results for an operand that needs no computing; false: nothing is written.
bool special_sine(X87Image& image, const X87Register& x, X87Register& sine, X87Register& cosine) {
  const X87Class c = x87_class(x);
  if (c == X87Class::zero) {
    sine = x;
    cosine = one;
    return true;
  }
  if (c == X87Class::infinity) {
    sine = cosine = x87_default_nan;
    return x87_raise(image, x87_invalid);
  }
  const bool written = x87_propagate(image, x, sine);
  cosine = sine;
  return written;
}

template <Wanted wanted>
void sine_cosine(X87Image& image) {
  constexpr bool pushes = wanted == Wanted::both || wanted == Wanted::tangent;
  if (image.is_empty(0) || (pushes && !image.is_empty(7))) {
    const bool overflow = !image.is_empty(0);
    image.status = static_cast<std::uint16_t>(image.status & ~x87_c2);
    if (!x87_raise_stack_fault(image, overflow)) return;
    fill(image, 0, x87_default_nan);
    if (pushes) x87_push(image, x87_default_nan);
    return;
  }
  const X87Register x = image.st[0];
  if (!reducible(image, x)) return;
  X87Register first{}, second{};
  if (!finite_nonzero(x87_class(x))) {
    if (!special_sine(image, x, first, second)) return;
    if (wanted == Wanted::tangent && x87_class(x) == X87Class::zero) second = one;
    image.st[0] = wanted == Wanted::cosine ? second : first;
    if (pushes) x87_push(image, second);
    return;
  }
  if (x87_class(x) == X87Class::denormal && !x87_raise(image, x87_denormal)) return;
  const X87SineCosine values = x87_sine_cosine(x87_number(x));
  switch (wanted) {
    case Wanted::sine:
      image.st[0] = rounded(image, values.sine);
      break;
    case Wanted::cosine:
      image.st[0] = rounded(image, values.cosine);
      break;
    case Wanted::tangent:
      image.st[0] = rounded(image, values.tangent);
      x87_push(image, one);
      break;
    case Wanted::both:
      image.st[0] = rounded(image, values.sine);
      image.status = static_cast<std::uint16_t>(image.status & ~x87_c1);
      x87_push(image, rounded(image, values.cosine));
      break;
  }
}

// The frame of the two-operand instructions: ST1 = compute(ST0, ST1), then pop.
using Binary = bool (*)(X87Image&, const X87Register& x, const X87Register& y, X87Register&);

template <Binary compute>
void two_operands(X87Image& image) {
  X87Register result{};
  if (image.is_empty(0) || image.is_empty(1)) {
    if (!x87_raise_stack_fault(image, false)) return;
    result = x87_default_nan;
  } else {
    const X87Register x = image.st[0], y = image.st[1];
    const bool nan = nan_or_unsupported(x87_class(x)) || nan_or_unsupported(x87_class(y));
    const bool written = nan ? x87_propagate(image, x, y, result) : compute(image, x, y, result);
    if (!written) return;
  }
  fill(image, 1, result);
  x87_pop(image);
}

bool invalid(X87Image& image, X87Register& result) {
  result = x87_default_nan;
  return x87_raise(image, x87_invalid);
}

bool raise_denormals(X87Image& image, const X87Register& x, const X87Register& y) {
  const bool denormal = x87_class(x) == X87Class::denormal || x87_class(y) == X87Class::denormal;
  return !denormal || x87_raise(image, x87_denormal);
}

// y * log where the logarithm is an infinity, or y is one, or the logarithm is a zero.
bool infinite_product(X87Image& image, const X87Register& y, bool log_negative,
                      X87Register& result) {
  if (x87_class(y) == X87Class::zero) return invalid(image, result);
  result = x87_infinity(x87_negative(y) != log_negative);
  return true;
}

bool y_log2(X87Image& image, const X87Register& x, const X87Register& y, X87Register& result) {
  const X87Class cx = x87_class(x), cy = x87_class(y);
  if (cx == X87Class::zero) {
    if (cy == X87Class::zero) return invalid(image, result);
    result = x87_infinity(!x87_negative(y));
    if (cy == X87Class::infinity) return true;
    return x87_raise(image, x87_zero_divide);
  }
  if (x87_negative(x)) return invalid(image, result);
  if (!raise_denormals(image, x, y)) return false;
  if (cx == X87Class::infinity) return infinite_product(image, y, false, result);
  const X87Number number = x87_number(x);
  const bool is_one = number.exponent == 0 && number.significand == one.significand;
  const bool log_negative = number.exponent < 0;
  if (cy == X87Class::infinity) {
    if (is_one) return invalid(image, result);
    result = x87_infinity(x87_negative(y) != log_negative);
    return true;
  }
  if (cy == X87Class::zero || is_one) {
    result = x87_zero(x87_negative(y) != (log_negative && !is_one));
    return true;
  }
  result = rounded(image, x87_y_log2(number, x87_number(y)));
  return true;
}

bool y_log2_plus_1(X87Image& image, const X87Register& x, const X87Register& y,
                   X87Register& result) {
  const X87Class cx = x87_class(x), cy = x87_class(y);
  const bool negative = x87_negative(x) != x87_negative(y);
  if (cx == X87Class::infinity) {
    if (x87_negative(x)) return invalid(image, result);
    return raise_denormals(image, x, y) && infinite_product(image, y, false, result);
  }
  if (cx == X87Class::zero) {
    if (cy == X87Class::infinity) return invalid(image, result);
    result = x87_zero(negative);
    return raise_denormals(image, x, y);
  }
  // From -1 on down the result is undefined: ours is invalid.
  if (x87_negative(x) && x87_number(x).exponent >= 0) return invalid(image, result);
  if (!raise_denormals(image, x, y)) return false;
  if (cy == X87Class::infinity) {
    result = x87_infinity(negative);
    return true;
  }
  if (cy == X87Class::zero) {
    result = x87_zero(negative);
    return true;
  }
  result = rounded(image, x87_y_log2_plus_1(x87_number(x), x87_number(y)));
  return true;
}

bool angle(X87Image& image, const X87Register& x, const X87Register& y, X87Register& result) {
  const X87Class cx = x87_class(x), cy = x87_class(y);
  if (!raise_denormals(image, x, y)) return false;
  const bool y_dominates = cy == X87Class::infinity || cx == X87Class::zero;
  const bool x_dominates = cx == X87Class::infinity || cy == X87Class::zero;
  if (cy == X87Class::zero && !x87_negative(x)) {
    result = x87_zero(x87_negative(y));
    return true;
  }
  if (cx == X87Class::infinity && cy != X87Class::infinity && !x87_negative(x)) {
    result = x87_zero(x87_negative(y));
    return true;
  }
  // Infinities and zeros have the angles of finite points.
  X87Number px{x87_negative(x), one.significand, 0}, py{x87_negative(y), one.significand, 0};
  if (!y_dominates && !x_dominates) {
    px = x87_number(x);
    py = x87_number(y);
  } else if (y_dominates && !x_dominates) {
    py.exponent = 1000;
  } else if (x_dominates && !y_dominates) {
    px.exponent = 1000;
  } else if (cy == X87Class::zero) {
    px.exponent = 1000;  // both are zero
  }
  result = rounded(image, x87_angle(py, px));
  return true;
}

}  // namespace

Stub::Entry x87_transcendental_entry(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_F2XM1:
      return run<exp2_minus_1>;
    case ZYDIS_MNEMONIC_FSIN:
      return run<sine_cosine<Wanted::sine>>;
    case ZYDIS_MNEMONIC_FCOS:
      return run<sine_cosine<Wanted::cosine>>;
    case ZYDIS_MNEMONIC_FSINCOS:
      return run<sine_cosine<Wanted::both>>;
    case ZYDIS_MNEMONIC_FPTAN:
      return run<sine_cosine<Wanted::tangent>>;
    case ZYDIS_MNEMONIC_FPATAN:
      return run<two_operands<angle>>;
    case ZYDIS_MNEMONIC_FYL2X:
      return run<two_operands<y_log2>>;
    case ZYDIS_MNEMONIC_FYL2XP1:
      return run<two_operands<y_log2_plus_1>>;
    default:
      return nullptr;
  }
}

}  // namespace node_mesh
