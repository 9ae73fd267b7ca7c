// What a real CPU may see late, ours sees at once: code that was just written, page tables that
// were just changed, accessed and dirty bits.
#include <doctest/doctest.h>

#include "cpu/test/test_guest.h"

namespace node_mesh::cpu_test {
namespace {

constexpr std::uint64_t accessed = 0x20, dirty = 0x40;

TEST_CASE("a store to the next instruction takes effect before it runs") {
  TestGuest guest;
  // MOV BYTE [RIP+1], 0x43 turns the INC's ModRM from EAX (c0) into EBX (c3): patched in place.
  guest.put(code_at, {0xc6, 0x05, 0x01, 0x00, 0x00, 0x00, 0xc3, 0xff, 0xc0, 0xf4});
  CpuSnapshot s = guest.kernel_state();
  s.gpr[3] = 0;
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.cpu.snapshot().gpr[0] == 0);
  CHECK(guest.cpu.snapshot().gpr[3] == 1);
  CHECK(guest.cpu.position() == Position{3, 0});
}

TEST_CASE("code written through an alias, in a loop that runs it") {
  TestGuest guest;
  // MOV ECX, 4; loop: INC EAX; XOR BYTE [RDI], 8 (INC EAX <-> DEC EAX); LOOP
  guest.put(code_at, {0xb9, 4, 0, 0, 0, 0xff, 0xc0, 0x80, 0x37, 0x08, 0xe2, 0xf9, 0xf4});
  CpuSnapshot s = guest.kernel_state();
  s.gpr[7] = kernel_base + code_at + 6;
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.cpu.snapshot().gpr[0] == 0);
  CHECK(guest.cpu.position() == Position{14, 0});
}

TEST_CASE("an instruction across two pages follows changes of either page and of the mapping") {
  TestGuest guest;
  const std::uint64_t at = code_at + 0xffd;
  const std::uint64_t other = 0x400000;
  // MOV EAX, imm32 with three bytes of it in the next page; RET
  guest.put(at, {0xb8, 0x11, 0x22, 0x33, 0x44, 0xc3});
  guest.put(other, {0x77, 0x88, 0xc3});
  // CALL RDX; MOV ESI, EAX; MOV BYTE [at+1], 0x99; CALL RDX; MOV EDI, EAX;
  // MOV [PTE of the second page], RBP; CALL RDX; HLT
  guest.put(code_at, {0xff, 0xd2, 0x89, 0xc6, 0xc6, 0x42, 0x01, 0x99, 0xff, 0xd2, 0x89, 0xc7, 0x49,
                      0x89, 0x28, 0xff, 0xd2, 0xf4});
  CpuSnapshot s = guest.kernel_state();
  s.gpr[2] = at;
  s.gpr[5] = other | 7;
  s.gpr[8] = TestGuest::entry_gpa(code_at + 0x1000);
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.cpu.snapshot().gpr[6] == 0x44332211);
  CHECK(guest.cpu.snapshot().gpr[7] == 0x44332299);
  CHECK(guest.cpu.snapshot().gpr[0] == 0x88772299);
}

TEST_CASE("accessed and dirty bits: by the first access, and again after they were cleared") {
  TestGuest guest;
  const std::uint64_t entry = TestGuest::entry_gpa(data_at);
  const auto bits = [&] { return guest.get64(entry) & (accessed | dirty); };
  // MOV EAX,[RBX]; MOV [RBX],EAX; AND BYTE [RSI], 0x9f; MOV EAX,[RBX]; MOV [RBX],EAX; HLT
  guest.put(code_at, {0x8b, 0x03, 0x89, 0x03, 0x80, 0x26, 0x9f, 0x8b, 0x03, 0x89, 0x03, 0xf4});
  CpuSnapshot s = guest.kernel_state();
  s.gpr[6] = entry;
  guest.cpu.restore(s);
  const std::uint64_t expected[] = {accessed, accessed | dirty, 0, accessed, accessed | dirty};
  CHECK(bits() == 0);
  for (std::uint64_t step = 0; step < 5; ++step) {
    CAPTURE(step);
    REQUIRE(guest.cpu.run({step + 1, 0}) == RunExit::limit);
    CHECK(bits() == expected[step]);
  }
}

TEST_CASE("a failing access sets no bits") {
  TestGuest guest;
  const std::uint64_t entry = TestGuest::entry_gpa(data_at);
  guest.put64(entry, data_at | 5);  // user, read only
  guest.put(code_at, {0x89, 0x03});
  REQUIRE(guest.run(guest.user_state()) == RunExit::halted);
  CHECK(guest.frame().vector == 14);
  CHECK(guest.frame().error == 7);
  CHECK((guest.get64(entry) & (accessed | dirty)) == 0);
}

TEST_CASE("a change of a page table entry takes effect without INVLPG") {
  TestGuest guest;
  guest.put64(data_at, 1);
  guest.put64(0x400000, 2);
  // ADD EAX,[RBX]; MOV [RSI],RDI; ADD EAX,[RBX]; MOV [RSI],R8; ADD EAX,[RBX]
  guest.put(code_at, {0x03, 0x03, 0x48, 0x89, 0x3e, 0x03, 0x03, 0x4c, 0x89, 0x06, 0x03, 0x03});
  CpuSnapshot s = guest.kernel_state();
  s.gpr[6] = TestGuest::entry_gpa(data_at);
  s.gpr[7] = 0x400000 | 7;
  s.gpr[8] = 0;
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.cpu.snapshot().gpr[0] == 3);
  CHECK(guest.frame().vector == 14);
  CHECK(guest.frame().rip == code_at + 10);
}

TEST_CASE("a change of an upper table takes effect at once, for code too") {
  TestGuest guest;
  constexpr std::uint64_t new_table = 0x500000, new_page = 0x501000;
  // The new table maps the code's page elsewhere: there, RAX is set to 7.
  for (std::uint64_t gfn = 0; gfn < 512; ++gfn)
    guest.put64(new_table + gfn * 8, gfn << 12 | 7);
  guest.put64(new_table + (code_at >> 12) * 8, new_page | 7);
  // MOV [RSI],RDI; MOV EAX,imm; HLT
  guest.put(code_at, {0x48, 0x89, 0x3e, 0xb8, 6, 0, 0, 0, 0xf4});
  guest.put(new_page, {0x48, 0x89, 0x3e, 0xb8, 7, 0, 0, 0, 0xf4});
  CpuSnapshot s = guest.kernel_state();
  s.gpr[6] = 0x3000;
  s.gpr[7] = new_table | 7;
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.cpu.snapshot().gpr[0] == 7);
  CHECK(guest.cpu.position() == Position{3, 0});
}

TEST_CASE("address spaces keep their own translations across CR3 loads") {
  TestGuest guest;
  constexpr std::uint64_t root = 0x500000, pdpt = 0x501000, pd = 0x502000, table = 0x503000;
  guest.put64(root, pdpt | 7);
  guest.put64(root + 256 * 8, high_pdpt_at | 3);
  guest.put64(pdpt, pd | 7);
  guest.put64(pd, page_table_at | 7);
  guest.put64(pd + 8, table | 7);  // 2-4 MiB: everything is at 6-8 MiB instead
  for (std::uint64_t k = 0; k < 512; ++k)
    guest.put64(table + k * 8, (0x600000 + (k << 12)) | 7);
  guest.put64(data_at, 1);
  guest.put64(data_at + 0x400000, 0x10);
  // 3 times: ADD EAX,[RBX]; MOV CR3,RDX; ADD EAX,[RBX]; MOV CR3,RSI; LOOP; HLT
  guest.put(code_at, {0xb9, 3, 0, 0, 0, 0x03, 0x03, 0x0f, 0x22, 0xda, 0x03, 0x03, 0x0f, 0x22, 0xde,
                      0xe2, 0xf4, 0xf4});
  CpuSnapshot s = guest.kernel_state();
  s.gpr[2] = root;
  s.gpr[6] = pml4_at;
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.cpu.snapshot().gpr[0] == 0x33);
}

TEST_CASE("REP slices end at page boundaries, count one step each, and are exact on a fault") {
  TestGuest guest;
  guest.put(code_at, {0xf3, 0xaa, 0xf4});  // REP STOSB; HLT
  CpuSnapshot s = guest.kernel_state();
  s.gpr[7] = data_at + 0xff0;
  s.gpr[1] = 0x1020;
  guest.cpu.restore(s);
  REQUIRE(guest.cpu.run({1, 0}) == RunExit::limit);
  CHECK(guest.cpu.snapshot().gpr[1] == 0x1010);
  CHECK(guest.cpu.snapshot().rip == code_at);
  REQUIRE(guest.cpu.run(forever) == RunExit::halted);
  CHECK(guest.cpu.position() == Position{4, 0});
  CHECK(guest.cpu.snapshot().gpr[7] == data_at + 0x2010);
  guest.put64(TestGuest::entry_gpa(data_at + 0x2000), 0);
  REQUIRE(guest.run(s) == RunExit::halted);
  CHECK(guest.frame().vector == 14);
  CHECK(guest.frame().rip == code_at);
  CHECK(guest.cpu.snapshot().gpr[1] == 0x10);
  CHECK(guest.cpu.snapshot().gpr[7] == data_at + 0x2000);
  CHECK(guest.cpu.snapshot().cr2 == data_at + 0x2000);
}

TEST_CASE("REP stores over running code count like any others") {
  for (const bool code_there : {false, true}) {
    TestGuest guest;
    guest.put(code_at, {0xff, 0xd2, 0xf3, 0xaa, 0xf4});  // CALL RDX; REP STOSB; HLT
    guest.put(data_at + 0x80, {0xc3});
    guest.put(0x400000, {0xc3});
    CpuSnapshot s = guest.kernel_state();
    s.gpr[2] = code_there ? data_at + 0x80 : 0x400000;
    s.gpr[0] = 0xf4;
    s.gpr[1] = 0x100;
    s.gpr[7] = data_at;
    REQUIRE(guest.run(s) == RunExit::halted);
    CHECK(guest.cpu.position() == Position{4, 0});
    CHECK(guest.get64(data_at + 0x80) == 0xf4f4f4f4f4f4f4f4);
  }
}

}  // namespace
}  // namespace node_mesh::cpu_test
