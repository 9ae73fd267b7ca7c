// The property that record and replay stand on: where a run is cut into slices, which caches are
// warm and when writable pages are forgotten makes no difference. Random programs with loops,
// faults, system calls, self-modifying stores, string instructions and interrupts at fixed
// positions run once in one go and then in random slices, and must end in the same state.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "cpu/test/test_guest.h"

namespace node_mesh::cpu_test {
namespace {

constexpr Position program_end{4000, 0};
constexpr std::uint64_t program_bytes = 3 * 4096;

// Instructions with their operands below `data_at` + 64 KiB (RBX) or in registers RAX RCX RDX RBP
// R8.
Bytes random_instruction(std::mt19937_64& random) {
  const auto byte = [&] { return static_cast<std::uint8_t>(random()); };
  const auto reg = [&] {
    static constexpr std::uint8_t free_registers[] = {0, 1, 2, 5};
    return free_registers[random() % 4];
  };
  const auto modrm_rr = [&] { return static_cast<std::uint8_t>(0xc0 | reg() << 3 | reg()); };
  const auto modrm_rm = [&] { return static_cast<std::uint8_t>(0x83 | reg() << 3); };
  const auto with_disp = [&](Bytes bytes) {
    bytes.push_back(modrm_rm());
    bytes.push_back(byte());
    bytes.push_back(byte() & 0x3f);
    bytes.push_back(0);
    bytes.push_back(0);
    return bytes;
  };
  const auto alu = static_cast<std::uint8_t>(random() % 8 * 8);
  switch (random() % 20) {
    case 0:
      return {static_cast<std::uint8_t>(alu + 1), modrm_rr()};
    case 1:
      return {0x48, static_cast<std::uint8_t>(alu + 3), modrm_rr()};
    case 2:
      return with_disp({static_cast<std::uint8_t>(alu + 1)});
    case 3:
      return with_disp({0x48, static_cast<std::uint8_t>(alu + 3)});
    case 4:
      return with_disp({0x8b});
    case 5:
      return with_disp({0x48, 0x89});
    case 6:
      return with_disp({0x88});
    case 7:
      return {0x48, 0xc1, static_cast<std::uint8_t>(0xe0 | reg()), byte()};
    case 8:
      return {static_cast<std::uint8_t>(0x50 | reg()), static_cast<std::uint8_t>(0x58 | reg())};
    case 9:
      return {static_cast<std::uint8_t>(0x70 | random() % 16), 0x02, 0x90, 0x90};
    case 10:
      return {0x0f, static_cast<std::uint8_t>(0x40 | random() % 16), modrm_rr()};
    case 11:
      return {0x0f, 0xa2};  // CPUID
    case 12:
      return {0x0f, 0x31};  // RDTSC
    case 13:
      return with_disp({0x0f, 0xb0});  // CMPXCHG
    case 14:                           // MOV EDI, data; MOV ECX, n; REP STOSB
      return {0x8d, 0xbb, byte(), byte(), 0, 0, 0xb9, byte(), static_cast<std::uint8_t>(byte() & 7),
              0,    0,    0xf3,   0xaa};
    case 15:  // LEA ESI, ..; LEA EDI, ..; MOV ECX, n; REP MOVSQ
      return {0x8d, 0xb3, byte(), byte(), 0, 0, 0x8d, 0xbb, byte(), byte(),
              0,    0,    0xb9,   byte(), 1, 0, 0,    0xf3, 0x48,   0xa5};
    case 16:  // DIV of whatever there is: mostly a fault
      return {0xf7, static_cast<std::uint8_t>(0xf0 | reg())};
    case 17:
      return {0x0f, 0x05};  // SYSCALL
    case 18: {              // patch the immediate of the MOV that follows
      return {0xc6, 0x05, 0x01, 0, 0, 0, byte(), 0xb8, byte(), 0, 0, 0};
    }
    default:
      return {0x66, 0x0f, 0xef, 0xc1, 0xf2, 0x0f, 0x2a, 0xc0, 0x0f, 0x58, 0xc1};
  }
}

// A loop over random instructions that fills about three pages, so that some cross from page to
// page.
Bytes random_program(std::mt19937_64& random) {
  Bytes program;
  const std::uint64_t target = 200 + random() % (program_bytes - 400);
  while (program.size() < target) {
    const Bytes next = random_instruction(random);
    program.insert(program.end(), next.begin(), next.end());
  }
  program.push_back(0xe9);  // back to the start
  const auto back = static_cast<std::uint32_t>(-static_cast<std::int64_t>(program.size() + 4));
  for (unsigned k = 0; k < 4; ++k)
    program.push_back(static_cast<std::uint8_t>(back >> (8 * k)));
  return program;
}

// Handlers that go on: faults skip two bytes of whatever faulted, interrupts lower their line,
// system calls return.
void install_handlers(TestGuest& guest) {
  // ADD QWORD [RSP], 2; IRETQ
  guest.put(handlers_at, {0x48, 0x83, 0x04, 0x24, 0x02, 0x48, 0xcf});
  guest.put(handlers_at + 6 * handler_bytes, {0x48, 0x83, 0x04, 0x24, 0x02, 0x48, 0xcf});
  // With an error code: ADD RSP, 8 first.
  for (const unsigned v : {13u, 14u}) {
    guest.put(handlers_at + v * handler_bytes,
              {0x48, 0x83, 0xc4, 0x08, 0x48, 0x83, 0x04, 0x24, 0x02, 0x48, 0xcf});
  }
  guest.put(handlers_at + 0x40 * handler_bytes, {0xe6, 0x10, 0x48, 0xcf});  // OUT 0x10, AL; IRETQ
  guest.put(handlers_at + 0x80 * handler_bytes, {0x90, 0x48, 0x0f, 0x07});  // NOP; SYSRETQ
}

struct Scenario {
  Bytes program;
  bool user;
  std::vector<std::uint64_t> interrupts;  // steps at which the line is raised
};

void start(TestGuest& guest, const Scenario& scenario) {
  install_handlers(guest);
  guest.put(code_at, scenario.program);
  CpuSnapshot s = scenario.user ? guest.user_state() : guest.kernel_state();
  s.rflags |= flag_if;
  guest.cpu.restore(s);
}

// Cuts by `cut(position)` between the events; user mode is stopped now and then so that loops
// without a trap come to an end too.
template <class Cut>
RunExit run_scenario(TestGuest& guest, const Scenario& scenario, Cut cut) {
  constexpr std::uint64_t stretch_max = 3000;
  std::size_t next = 0;
  while (guest.cpu.position() < program_end) {
    const Position now = guest.cpu.position();
    if (next < scenario.interrupts.size() && now.steps >= scenario.interrupts[next]) {
      guest.cpu.set_interrupt_line(true);
      ++next;
    }
    if (now.user_steps >= stretch_max) guest.cpu.set_interrupt_line(true);
    Position limit{
        next < scenario.interrupts.size() ? scenario.interrupts[next] : program_end.steps, 0};
    if (guest.cpu.in_user_mode() && now.user_steps < stretch_max) {
      limit = std::min(limit, Position{now.steps, stretch_max});
    }
    limit = std::min(limit, cut(guest, now));
    const RunExit exit = guest.cpu.run(limit);
    if (exit != RunExit::limit) return exit;  // a program may well destroy its own stack
    if (guest.cpu.position() != limit) {
      // Only a trap out of user mode may pass the limit.
      REQUIRE(guest.cpu.position() > limit);
      REQUIRE(guest.cpu.position().steps == limit.steps + 1);
      REQUIRE(limit.user_steps != 0);
    }
  }
  return RunExit::limit;
}

bool same_state(const CpuSnapshot& a, const CpuSnapshot& b) {
  return a.gpr == b.gpr && a.rip == b.rip && a.rflags == b.rflags && a.cr2 == b.cr2 &&
         a.position == b.position && a.fpu.xmm == b.fpu.xmm && a.fpu.x87 == b.fpu.x87 &&
         a.fpu.mxcsr == b.fpu.mxcsr && a.interrupt_shadow == b.interrupt_shadow &&
         a.segments[1].selector == b.segments[1].selector;
}

TEST_CASE("random programs end in the same state however their run is cut") {
  unsigned completed = 0;
  for (unsigned seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    Scenario scenario{random_program(random), random() % 2 == 0, {}};
    for (std::uint64_t at = 50; at < program_end.steps; at += 1 + random() % 400) {
      scenario.interrupts.push_back(at);
    }
    TestGuest whole, sliced;
    start(whole, scenario);
    start(sliced, scenario);
    const RunExit end =
        run_scenario(whole, scenario, [](TestGuest&, Position) { return program_end; });
    completed += end == RunExit::limit;
    const std::uint64_t longest = 1 + random() % 40;
    const RunExit sliced_end = run_scenario(sliced, scenario, [&](TestGuest& guest, Position now) {
      if (random() % 16 == 0) guest.cpu.forget_writable_pages();
      if (random() % 64 == 0) guest.cpu.restore(guest.cpu.snapshot());
      const std::uint64_t more = 1 + random() % longest;
      return guest.cpu.in_user_mode() ? Position{now.steps, now.user_steps + more}
                                      : Position{now.steps + more, 0};
    });
    CHECK(end == sliced_end);
    CHECK(same_state(whole.cpu.snapshot(), sliced.cpu.snapshot()));
    CHECK(std::memcmp(whole.memory.base(), sliced.memory.base(), guest_bytes) == 0);
  }
  CHECK(completed > 15);
}

TEST_CASE("a stop request ends the run at a boundary and loses nothing") {
  TestGuest guest;
  guest.put(code_at, {0x48, 0xff, 0xc0, 0xeb, 0xfb});  // INC RAX; JMP
  guest.cpu.restore(guest.kernel_state());
  guest.cpu.request_stop();
  CHECK(guest.cpu.run(forever) == RunExit::kicked);
  CHECK(guest.cpu.position() == Position{0, 0});
  CHECK(guest.cpu.run({100001, 0}) == RunExit::limit);
  CHECK(guest.cpu.snapshot().gpr[0] == 50001);
}

}  // namespace
}  // namespace node_mesh::cpu_test
