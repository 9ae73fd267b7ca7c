// Each fault has the right vector, error code, saved instruction pointer and position.
#include <doctest/doctest.h>

#include <string>

#include "cpu/test/test_guest.h"

namespace node_mesh::cpu_test {
namespace {

struct FaultCase {
  const char* name;
  bool user;
  Bytes code;
  int vector;
  std::uint64_t error;
  std::uint64_t at;  // offset of the faulting instruction
};

TEST_CASE("faults: vector, error code, RIP") {
  const FaultCase cases[] = {
      {"div by zero", false, {0x90, 0x31, 0xc9, 0xf7, 0xf1}, 0, 0, 3},
      {"ud2", false, {0x90, 0x0f, 0x0b}, 6, 0, 1},
      {"lock on a register form", false, {0xf0, 0x01, 0xc0}, 6, 0, 0},
      {"int3 in user mode", true, {0xcc}, 3, 0, 1},
      {"int 0x80 in user mode", true, {0xcd, 0x80}, 0x80, 0, 2},
      {"int 0x81 in user mode: gate DPL", true, {0xcd, 0x81}, 13, 0x81 * 8 + 2, 0},
      {"hlt in user mode", true, {0x90, 0xf4}, 13, 0, 1},
      {"cli in user mode", true, {0xfa}, 13, 0, 0},
      {"in in user mode without a bitmap", true, {0xe4, 0x60}, 13, 0, 0},
      {"mov cr3 in user mode", true, {0x0f, 0x22, 0xd8}, 13, 0, 0},
      {"rdmsr of an unknown register", false, {0xb9, 0xff, 0xff, 0, 0, 0x0f, 0x32}, 13, 0, 5},
      {"wrmsr with a non-canonical base",
       false,
       {0xb9, 0x00, 0x01, 0x00, 0xc0, 0xba, 0, 0, 0, 0x80, 0x31, 0xc0, 0x0f, 0x30},
       13,
       0,
       12},
      {"mov cr4 with an unknown bit", false, {0xb8, 0, 0, 0x80, 0, 0x0f, 0x22, 0xe0}, 13, 0, 5},
      {"load of a non-canonical address",
       false,
       {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x48, 0x8b, 0x00},
       13,
       0,
       10},
      {"push with a non-canonical stack",
       true,
       {0x48, 0xbc, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x50},
       12,
       0,
       10},
      {"data segment beyond the table", false, {0xb8, 0x58, 0, 0, 0, 0x8e, 0xd8}, 13, 0x58, 5},
      {"user loads a kernel data segment", true, {0xb8, 0x18, 0, 0, 0, 0x8e, 0xd8}, 13, 0x18, 5},
      {"movaps misaligned", true, {0x0f, 0x28, 0x43, 0x01}, 13, 0, 0},
      {"ldmxcsr reserved bit", true, {0xc7, 0x03, 0, 0, 1, 0, 0x0f, 0xae, 0x13}, 13, 0, 6},
      {"read of an unmapped page", false, {0x8b, 0x04, 0x25, 0, 0, 0x80, 0x00}, 14, 0, 0},
      {"write of an unmapped page in user mode",
       true,
       {0x89, 0x04, 0x25, 0, 0, 0x80, 0x00},
       14,
       6,
       0},
      {"user reads the kernel's half",
       true,
       {0x48, 0xb8, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff, 0x8b, 0x00},
       14,
       5,
       10},
      {"sysenter without SEP", true, {0x0f, 0x34}, 6, 0, 0},
      {"monitor", false, {0x0f, 0x01, 0xc8}, 6, 0, 0},
      {"rdpmc", false, {0x0f, 0x33}, 13, 0, 0},
      {"vex instruction", true, {0xc5, 0xf8, 0x77}, 6, 0, 0},
      {"more than 15 bytes",
       true,
       {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
        0x90},
       13,
       0,
       0},
  };
  for (const FaultCase& test : cases) {
    CAPTURE(std::string(test.name));
    TestGuest guest;
    guest.put(code_at, test.code);
    REQUIRE(guest.run(test.user ? guest.user_state() : guest.kernel_state()) == RunExit::halted);
    const Frame f = guest.frame();
    CHECK(f.vector == test.vector);
    CHECK(f.error == test.error);
    CHECK(f.rip == code_at + test.at);
    CHECK((f.cs & 3) == (test.user ? 3u : 0u));
    // A user stretch counts one step; so does a delivery. The handler's HLT is the last one.
    CHECK(guest.cpu.position().user_steps == 0);
    if (test.user) CHECK(guest.cpu.position().steps == 2);
  }
}

TEST_CASE("a page fault on fetch names the byte that could not be fetched") {
  TestGuest guest;
  guest.put(code_at + 0xffe, {0x48, 0xb8});  // MOV RAX, imm64 across the page's end
  guest.put64(TestGuest::entry_gpa(code_at + 0x1000), 0);
  CpuSnapshot s = guest.user_state();
  s.rip = code_at + 0xffe;
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.frame().vector == 14);
  CHECK(guest.frame().error == 0x14);
  CHECK(guest.cpu.snapshot().cr2 == code_at + 0x1000);
  CHECK(guest.frame().rip == code_at + 0xffe);
}

TEST_CASE("execution that runs into a non-canonical address is a general protection fault there") {
  for (const std::uint64_t rip : {std::uint64_t{0x800000000000}, std::uint64_t{1} << 63}) {
    TestGuest guest;
    CpuSnapshot s = guest.user_state();
    s.rip = rip;
    REQUIRE(guest.run(s) == RunExit::halted);
    CHECK(guest.frame().vector == 13);
    CHECK(guest.frame().error == 0);
    CHECK(guest.frame().rip == rip);
  }
}

TEST_CASE("no-execute pages fault on fetch only") {
  TestGuest guest;
  guest.put64(TestGuest::entry_gpa(code_at), code_at | 7 | std::uint64_t{1} << 63);
  REQUIRE(guest.run(guest.user_state()) == RunExit::halted);
  CHECK(guest.frame().vector == 14);
  CHECK(guest.frame().error == 0x15);
}

TEST_CASE("a fault while a fault is delivered is a double fault, then a shutdown") {
  TestGuest guest;
  guest.put(code_at, {0x8b, 0x04, 0x25, 0, 0, 0x80, 0x00});  // page fault
  guest.put64(idt_at + 14 * 16, 0);                          // whose gate is not present
  REQUIRE(guest.run(guest.kernel_state()) == RunExit::halted);
  CHECK(guest.frame().vector == 8);
  CHECK(guest.frame().error == 0);
  guest.put64(idt_at + 8 * 16, 0);
  CHECK(guest.run(guest.kernel_state()) == RunExit::triple_fault);
}

TEST_CASE("CR0.TS makes vector and x87 instructions raise #NM until CLTS") {
  for (const Bytes& code : {Bytes{0x0f, 0x28, 0xc1}, Bytes{0xd9, 0xe8}, Bytes{0x0f, 0xef, 0xc0}}) {
    TestGuest guest;
    guest.put(code_at, code);
    CpuSnapshot s = guest.user_state();
    s.cr0 |= 8;
    REQUIRE(guest.run(s) == RunExit::halted);
    CHECK(guest.frame().vector == 7);
    guest.put(code_at, {0x0f, 0x06, 0x0f, 0x28, 0xc1, 0xf4});
    s = guest.kernel_state();
    s.cr0 |= 8;
    REQUIRE(guest.run(s) == RunExit::halted);
    CHECK(guest.cpu.snapshot().rip == code_at + 6);
  }
}

TEST_CASE("alignment checks apply to user mode with CR0.AM and EFLAGS.AC") {
  TestGuest guest;
  guest.put(code_at, {0x8b, 0x43, 0x01});  // MOV EAX, [RBX+1]
  CpuSnapshot s = guest.user_state();
  s.rflags |= 0x40000;
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.frame().vector == 17);
}

TEST_CASE("single-stepping traps behind each instruction") {
  TestGuest guest;
  guest.put(code_at, {0x90, 0x40, 0x90, 0x90});
  CpuSnapshot s = guest.user_state();
  s.rflags |= flag_tf;
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.frame().vector == 1);
  CHECK(guest.frame().rip == code_at + 1);
  CHECK((guest.frame().rflags & flag_tf) != 0);
  CHECK((guest.cpu.snapshot().dr[6] & 0x4000) != 0);
  CHECK(guest.cpu.position() == Position{2, 0});
}

TEST_CASE("breakpoints: on instructions before, on data behind") {
  TestGuest guest;
  guest.put(code_at, {0x90, 0x90, 0x89, 0x43, 0x04, 0x90});  // NOP, NOP, MOV [RBX+4], EAX, NOP
  CpuSnapshot s = guest.user_state();
  s.dr[0] = code_at + 1;
  s.dr[7] = 0x401;
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.frame().vector == 1);
  CHECK(guest.frame().rip == code_at + 1);
  s.dr[0] = data_at + 4;
  s.dr[7] = 0x401 | 0xd << 16;  // four bytes, writes
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.frame().vector == 1);
  CHECK(guest.frame().rip == code_at + 5);
}

}  // namespace
}  // namespace node_mesh::cpu_test
