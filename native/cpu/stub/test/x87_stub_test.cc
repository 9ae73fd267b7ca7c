#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "cpu/stub/test/stub_harness.h"

namespace node_mesh {
namespace {

constexpr std::uint64_t one = std::uint64_t{1} << 63;

void load_control(StubHarness& h, unsigned value) {
  h.memory[0] = static_cast<std::uint8_t>(value);
  h.memory[1] = static_cast<std::uint8_t>(value >> 8);
  CHECK(h.run({0xd9, 0x28}) == StubResult::ok);  // fldcw
}

}  // namespace

TEST_CASE("x87 state survives between stubs and a flush") {
  StubHarness h;
  h.run({0xd9, 0xe8});  // fld1
  h.run({0xd8, 0xc0});  // fadd st0, st0
  CHECK(h.x87_significand(0) == one);
  CHECK(h.x87_exponent(0) == 0x4000);
  h.run({0xd9, 0xe8});
  h.run({0xde, 0xc1});  // faddp
  CHECK(h.x87_significand(0) == 0xc000000000000000);
}

TEST_CASE("two guests on one thread do not see each other's registers") {
  StubHarness a, b;
  a.run({0xd9, 0xe8});  // fld1
  b.run({0xd9, 0xee});  // fldz
  CHECK(a.x87_significand(0) == one);
  CHECK(b.x87_significand(0) == 0);
}

TEST_CASE("saved environments hold no host addresses") {
  StubHarness h;
  h.run({0xd9, 0xe8});
  h.run({0xdd, 0x18});  // fstp m64
  h.memory.fill(0xcc);
  h.run({0xd9, 0x30});  // fnstenv
  for (unsigned i = 12; i < 26; ++i)
    CHECK(h.memory[i] == 0);
  h.run({0xdd, 0x30});  // fnsave
  for (unsigned i = 12; i < 26; ++i)
    CHECK(h.memory[i] == 0);
  x87_flush(h.fpu);
  CHECK(std::all_of(h.fpu.x87.begin() + 6, h.fpu.x87.begin() + 32,
                    [](std::uint8_t byte) { return byte == 0; }));
}

TEST_CASE("an unmasked exception pends until a waiting instruction") {
  StubHarness h;
  load_control(h, 0x37b);                        // divide by zero unmasked
  h.run({0xd9, 0xe8});                           // fld1
  h.run({0xd9, 0xee});                           // fldz
  CHECK(h.run({0xdc, 0xf9}) == StubResult::ok);  // fdiv st1, st0
  CHECK((h.x87_status() & 0x8084) == 0x8084);
  CHECK(x87_exception_pending(h.fpu));
  CHECK(h.run({0xd9, 0xe8}) == StubResult::x87_exception);
  CHECK(h.run({0xdf, 0xe0}) == StubResult::ok);  // fnstsw ax
  CHECK((h.gpr[0] & 0x84) == 0x84);
  CHECK(h.run({0xdb, 0xe2}) == StubResult::ok);  // fnclex
  CHECK_FALSE(x87_exception_pending(h.fpu));
  CHECK(h.x87_significand(1) == one);  // the quotient was not written
}

TEST_CASE("a store with an unmasked exception leaves memory alone") {
  StubHarness h;
  load_control(h, 0x37e);                                   // invalid operation unmasked
  CHECK(h.run({0xdd, 0x10}) == StubResult::ok_not_stored);  // fst m64 of an empty register
}

TEST_CASE("transcendentals give known values to the last bit") {
  StubHarness h;
  h.run({0xd9, 0xe8});
  h.run({0xd9, 0xe8});
  h.run({0xd9, 0xf3});  // fpatan(1, 1) = pi/4
  CHECK(h.x87_significand(0) == 0xc90fdaa22168c235);
  CHECK(h.x87_exponent(0) == 0x3ffe);
  h.run({0xdb, 0xe3});  // fninit
  h.run({0xd9, 0xed});  // fldln2
  h.run({0xd9, 0xe8});
  h.run({0xd8, 0xc0});  // 2
  h.run({0xd9, 0xf1});  // fyl2x: ln2 * log2(2)
  CHECK(h.x87_significand(0) == 0xb17217f7d1cf79ac);
  h.run({0xdb, 0xe3});
  h.run({0xd9, 0xe8});
  h.run({0xd9, 0xfe});  // fsin(1)
  CHECK(h.x87_significand(0) == 0xd76aa47848677021);
  CHECK(h.x87_exponent(0) == 0x3ffe);
  h.run({0xdb, 0xe3});
  h.run({0xd9, 0xe8});
  h.run({0xd9, 0xf0});  // f2xm1(1) = 1
  CHECK(h.x87_significand(0) == one);
  CHECK((h.x87_status() & 0x20) == 0);
}

TEST_CASE("a partial remainder reduces by the defined amount") {
  StubHarness h;
  h.run({0xd9, 0xe8});
  std::memset(h.memory.data(), 0, 10);
  h.memory[7] = 0x80;
  h.memory[8] = 0xff;
  h.memory[9] = 0x3f + 1;  // 2^256
  h.run({0xdb, 0x28});     // fld m80
  h.run({0xd9, 0xf8});     // fprem
  CHECK((h.x87_status() & 0x400) != 0);
  CHECK(h.x87_significand(0) == 0);
}

}  // namespace node_mesh
