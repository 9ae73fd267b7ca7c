// Ways between privilege levels and code sizes: SYSCALL, SYSRET, IRET, 32-bit user code, far
// branches.
#include <doctest/doctest.h>

#include "cpu/test/test_guest.h"

namespace node_mesh::cpu_test {
namespace {

TEST_CASE("SYSCALL ends a user stretch with one step and saves RIP and RFLAGS") {
  TestGuest guest;
  guest.put(code_at, {0x90, 0x90, 0x0f, 0x05});
  CpuSnapshot s = guest.user_state();
  s.position = {10, 0};
  REQUIRE(guest.run(s) == RunExit::halted);
  const CpuSnapshot after = guest.cpu.snapshot();
  CHECK(after.rip == s.lstar + 1);
  CHECK(after.gpr[1] == code_at + 4);
  CHECK(after.gpr[11] == s.rflags);
  CHECK((after.rflags & flag_if) == 0);
  CHECK(after.segments[1].selector == kernel_code);
  CHECK(after.position == Position{12, 0});
}

TEST_CASE("SYSRET goes to user mode and is a kernel instruction") {
  TestGuest guest;
  guest.put(code_at, {0x48, 0x0f, 0x07});
  guest.put(code_at + 0x100, {0x90, 0xcc});
  CpuSnapshot s = guest.kernel_state();
  s.gpr[1] = code_at + 0x100;
  s.gpr[11] = 2 | flag_if;
  REQUIRE(guest.run(s, {1, 0}) == RunExit::limit);
  CHECK(guest.cpu.in_user_mode());
  CHECK(guest.cpu.position() == Position{1, 0});
  CHECK(guest.cpu.snapshot().segments[1].selector == user_code);
  CHECK(guest.cpu.snapshot().segments[2].selector == user_data);
  REQUIRE(guest.cpu.run({1, 1}) == RunExit::limit);
  CHECK(guest.cpu.snapshot().rip == code_at + 0x101);
  REQUIRE(guest.cpu.run(forever) == RunExit::halted);
  CHECK(guest.frame().vector == 3);
}

TEST_CASE("IRET to 32-bit code runs it with 32-bit operands, addresses and stack") {
  TestGuest guest;
  guest.put(code_at, {0x48, 0xcf});  // IRETQ
  // PUSH EAX; INC EBX (0x43); MOV EAX, [ECX+4]; CALL +0; INT 0x80
  guest.put(code_at + 0x100,
            {0x50, 0x43, 0x8b, 0x41, 0x04, 0xe8, 0, 0, 0, 0, 0x60, 0x61, 0xcd, 0x80});
  CpuSnapshot s = guest.kernel_state();
  const std::uint64_t frame[] = {code_at + 0x100, user_code32, 2 | flag_if, stack_top - 0x100,
                                 user_data};
  for (unsigned k = 0; k < 5; ++k)
    guest.put64(stack_top - 40 + k * 8, frame[k]);
  s.gpr[4] = stack_top - 40;
  s.gpr[0] = 0x1122334455667788;
  s.gpr[1] = data_at;
  s.gpr[3] = 0xffffffff;
  guest.put64(data_at, 0xcafebabe00000000);
  REQUIRE(guest.run(s) == RunExit::halted);
  const CpuSnapshot after = guest.cpu.snapshot();
  CHECK(guest.frame().vector == 0x80);
  CHECK(guest.frame().cs == user_code32);
  CHECK(guest.frame().rip == code_at + 0x10e);
  CHECK(guest.frame().rsp == stack_top - 0x108);
  CHECK(after.gpr[0] == 0xcafebabe);
  CHECK(after.gpr[3] == 0);
  CHECK(static_cast<std::uint32_t>(guest.get64(stack_top - 0x104)) == 0x55667788);
  CHECK(static_cast<std::uint32_t>(guest.get64(stack_top - 0x108)) == code_at + 0x10a);
}

TEST_CASE("SYSCALL from 32-bit code is undefined") {
  TestGuest guest;
  guest.put(code_at, {0x0f, 0x05});
  REQUIRE(guest.run(guest.user32_state()) == RunExit::halted);
  CHECK(guest.frame().vector == 6);
}

TEST_CASE("32-bit code: segment bases, decimal instructions, 16-bit addresses") {
  TestGuest guest;
  // DAA; MOV EDX, FS:[4]; BOUND EAX, [EBX]
  guest.put(code_at, {0x27, 0x64, 0x8b, 0x15, 4, 0, 0, 0, 0x62, 0x03});
  CpuSnapshot s = guest.user32_state();
  s.gpr[0] = 0x9a;
  s.segments[4].base = data_at + 0x10;
  guest.put64(data_at + 0x14, 0x12345678);
  guest.put64(data_at, 0x0000000500000001);  // bounds 1..5
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.cpu.snapshot().gpr[0] == 0);  // 9ah adjusted is 100 decimal
  CHECK(guest.cpu.snapshot().gpr[2] == 0x12345678);
  CHECK(guest.frame().vector == 5);
}

TEST_CASE("LRETQ and far JMP change the code segment at the same level") {
  TestGuest guest;
  guest.put(code_at, {0x48, 0xcb});
  guest.put(code_at + 0x40, {0xf4});
  CpuSnapshot s = guest.kernel_state();
  s.gpr[4] = stack_top - 16;
  guest.put64(stack_top - 16, code_at + 0x40);
  guest.put64(stack_top - 8, kernel_code);
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.cpu.snapshot().rip == code_at + 0x41);
  CHECK(guest.cpu.snapshot().gpr[4] == stack_top);
  guest.put64(stack_top - 8, user_code32 & ~3u);  // DPL 3 from CPL 0
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.frame().vector == 13);
  CHECK(guest.frame().error == (user_code32 & ~3u));
}

TEST_CASE("an interrupt waits for IF, for the STI shadow, and wakes HLT") {
  TestGuest guest;
  guest.put(code_at, {0x90, 0xfb, 0x90, 0x90, 0xf4});  // NOP, STI, NOP, NOP
  guest.cpu.set_interrupt_line(true);
  REQUIRE(guest.run(guest.kernel_state()) == RunExit::halted);
  CHECK(guest.frame().vector == 0x40);
  CHECK(guest.frame().rip == code_at + 3);  // one instruction behind STI
  CHECK(guest.cpu.position() == Position{5, 0});
  guest.put(code_at, {0xfb, 0xf4});
  guest.cpu.set_interrupt_line(false);
  REQUIRE(guest.run(guest.kernel_state()) == RunExit::halted);
  CHECK(guest.cpu.position() == Position{2, 0});
  guest.cpu.set_interrupt_line(true);
  REQUIRE(guest.cpu.run(forever) == RunExit::halted);
  CHECK(guest.frame().vector == 0x40);
  CHECK(guest.frame().rip == code_at + 2);
}

TEST_CASE("time reads and device reads may leave in front of the instruction") {
  TestGuest guest;
  guest.put(code_at, {0x90, 0x0f, 0x31, 0xf4});
  guest.bus.time_due = true;
  REQUIRE(guest.run(guest.kernel_state()) == RunExit::time_read);
  CHECK(guest.cpu.position() == Position{1, 0});
  CHECK(guest.cpu.snapshot().rip == code_at + 1);
  guest.bus.time_due = false;
  REQUIRE(guest.cpu.run(forever) == RunExit::halted);
  CHECK(guest.cpu.snapshot().gpr[0] == 1);  // the step at which RDTSC ran
}

TEST_CASE("a device access in the middle of a block happens at its exact position") {
  TestGuest guest;
  guest.put64(TestGuest::entry_gpa(data_at), 0xfee00000 | 7);
  // NOP, NOP, MOV [RBX], EAX, NOP, MOV EAX, [RBX+8], HLT
  guest.put(code_at, {0x90, 0x90, 0x89, 0x03, 0x90, 0x8b, 0x43, 0x08, 0xf4});
  guest.bus.reschedule = true;
  REQUIRE(guest.run(guest.kernel_state()) == RunExit::rescheduled);
  CHECK(guest.cpu.position() == Position{3, 0});
  REQUIRE(guest.cpu.run(forever) == RunExit::halted);
  CHECK(guest.bus.seen == std::vector<Position>{{2, 0}, {4, 0}});
  CHECK(guest.cpu.snapshot().gpr[0] == 0xfee00008);
}

}  // namespace
}  // namespace node_mesh::cpu_test
