// SSE: reciprocal estimates within the manual's bound, MXCSR obeyed.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "cpu/stub/test/stub_harness.h"

namespace node_mesh {

TEST_CASE("reciprocal estimates are within 1.5 * 2^-12") {
  StubHarness h;
  const double bound = 1.5 / 4096;
  for (float x = 1e-30f; x < 1e30f; x *= 1.37f) {
    h.set_float(1, 0, x);
    h.run({0xf3, 0x0f, 0x53, 0xc1});  // rcpss xmm0, xmm1
    CHECK(std::fabs(static_cast<double>(h.get_float(0, 0)) * x - 1) <= bound);
    h.run({0xf3, 0x0f, 0x52, 0xc1});  // rsqrtss xmm0, xmm1
    const double root = h.get_float(0, 0);
    CHECK(std::fabs(root * std::sqrt(static_cast<double>(x)) - 1) <= bound);
  }
  CHECK(h.fpu.mxcsr == 0x1f80);
}

TEST_CASE("special operands of the estimates") {
  StubHarness h;
  h.set_float(1, 0, -0.0f);
  h.set_float(1, 1, std::numeric_limits<float>::infinity());
  h.set_float(1, 2, std::numeric_limits<float>::denorm_min());
  h.set_float(1, 3, -4.0f);
  h.run({0x0f, 0x53, 0xc1});  // rcpps xmm0, xmm1
  CHECK(h.get_float(0, 0) == -std::numeric_limits<float>::infinity());
  CHECK(h.get_float(0, 1) == 0.0f);
  CHECK(h.get_float(0, 2) == std::numeric_limits<float>::infinity());
  CHECK(h.get_float(0, 3) == -0.25f);
  h.run({0x0f, 0x52, 0xc1});  // rsqrtps xmm0, xmm1
  CHECK(std::isnan(h.get_float(0, 3)));
  CHECK(h.get_float(0, 1) == 0.0f);
}

TEST_CASE("rounding mode and sticky flags are the guest's") {
  StubHarness h;
  h.set_double(0, 1.0);
  h.set_double(1, 3.0);
  h.fpu.mxcsr = 0x1f80 | 2 << 13;   // round up
  h.run({0xf2, 0x0f, 0x5e, 0xc1});  // divsd xmm0, xmm1
  CHECK(h.get_double(0) == std::nextafter(1.0 / 3.0, 1.0));
  CHECK(h.fpu.mxcsr == (0x1f80 | 2 << 13 | 0x20));
  CHECK(1.0 / 3.0 != h.get_double(0));
}

TEST_CASE("an unmasked exception is reported and writes nothing but its flag") {
  StubHarness h;
  h.set_double(0, 1.0);
  h.set_double(1, 0.0);
  h.fpu.mxcsr = 0x1f80 & ~0x200u;  // divide by zero unmasked
  CHECK(h.run({0xf2, 0x0f, 0x5e, 0xc1}) == StubResult::simd_exception);
  CHECK(h.get_double(0) == 1.0);
  CHECK(h.fpu.mxcsr == ((0x1f80 & ~0x200u) | 4));
  // An exact denormal result raises unmasked underflow.
  h.set_double(0, 0x1p-1022);
  h.set_double(1, 0x1p-10);
  h.fpu.mxcsr = 0x1f80 & ~0x800u;
  CHECK(h.run({0xf2, 0x0f, 0x59, 0xc1}) == StubResult::simd_exception);
  CHECK(h.fpu.mxcsr == ((0x1f80 & ~0x800u) | 0x10));
}

}  // namespace node_mesh
