#include <doctest/doctest.h>

#include "cpu/stub/test/stub_harness.h"
#include "cpu/stub/undefined_flags.h"

namespace node_mesh {

TEST_CASE("RSP and its parts as operands") {
  StubHarness h;
  h.gpr[4] = 0x1122334455667788;
  h.run({0x48, 0x0f, 0xc8 | 4});  // bswap rsp
  CHECK(h.gpr[4] == 0x8877665544332211);
  h.run({0x0f, 0xb6, 0xe4});  // movzx esp, ah
  CHECK(h.gpr[4] == 0);
  h.gpr[0] = 0xab00;
  h.run({0x0f, 0xb6, 0xe4});
  CHECK(h.gpr[4] == 0xab);
  h.run({0x40, 0x0f, 0xb6, 0xc4});  // movzx eax, spl
  CHECK(h.gpr[0] == 0xab);
}

TEST_CASE("TZCNT and LZCNT are BSF and BSR") {
  StubHarness h;
  h.gpr[0] = 0x1234567800000042;
  h.gpr[1] = 0;
  h.rflags = 2 | flag_cf | flag_of | flag_sf | flag_pf | flag_af;
  h.run({0xf3, 0x0f, 0xbc, 0xc1});  // tzcnt eax, ecx
  CHECK(h.gpr[0] == 0x1234567800000042);
  CHECK(h.rflags == (2 | flag_zf));
  h.gpr[1] = 0x100;
  h.run({0xf3, 0x0f, 0xbd, 0xc1});  // lzcnt eax, ecx
  CHECK(h.gpr[0] == 8);
  CHECK(h.rflags == 2);
}

TEST_CASE("undefined flags have one value") {
  StubHarness h;
  h.gpr[0] = 0x40000000;
  h.rflags = 2 | flag_af;
  h.run({0xc1, 0xe0, 1});  // shl eax, 1
  CHECK(h.rflags == (2 | flag_of | flag_sf | flag_pf));
  h.gpr[0] = 3;
  h.gpr[1] = 5;
  h.rflags = 2 | flag_sf | flag_zf | flag_af | flag_pf;
  h.run({0x0f, 0xaf, 0xc1});  // imul eax, ecx
  CHECK(h.gpr[0] == 15);
  CHECK(h.rflags == (2 | flag_sf | flag_zf | flag_af | flag_pf));
  h.rflags = 2 | flag_af;
  h.run({0x21, 0xc8});  // and eax, ecx
  CHECK(h.rflags == (2 | flag_pf));
  h.gpr[0] = 0x8001;
  h.gpr[2] = 0x1234;
  h.run({0x66, 0x0f, 0xa4, 0xd0, 20});  // shld ax, dx, 20
  CHECK(h.gpr[0] == 0x2341);
}

TEST_CASE("memory operands go through the bounce buffer, LOCK or not") {
  StubHarness h;
  h.memory[0] = 41;
  h.gpr[7] = 1;
  h.run({0xf0, 0x0f, 0xc1, 0x3e});  // lock xadd [rsi], edi
  CHECK(h.memory[0] == 42);
  CHECK(h.gpr[7] == 41);
}

}  // namespace node_mesh
