// Flags that user code leaves behind: dead ones are saved as zeros, those that are read on survive.
#include "cpu/canonical_flags.h"

#include <doctest/doctest.h>

#include "cpu/test/test_guest.h"

namespace node_mesh::cpu_test {
namespace {

constexpr std::uint64_t status_flags = 0x8d5, zero_flag = 0x40;

std::uint64_t saved_status(const Bytes& code) {
  TestGuest guest;
  guest.put(code_at, code);
  CHECK(guest.run(guest.user_state()) == RunExit::halted);
  return guest.frame().rflags & status_flags;
}

}  // namespace

TEST_CASE("flags that the faulting instruction overwrites are saved as zeros") {
  // xor eax, eax; xor ecx, ecx; div ecx
  CHECK(saved_status({0x31, 0xc0, 0x31, 0xc9, 0xf7, 0xf1}) == 0);
}

TEST_CASE("a flag that a branch behind the fault reads survives, the others do not") {
  // xor eax, eax; mov rax, [unmapped]; jz +0; add [rax], al ...
  const Bytes code = {0x31, 0xc0, 0x48, 0xa1, 0, 0, 0, 0, 0x7f, 0, 0, 0, 0x74, 0x00};
  CHECK(saved_status(code) == zero_flag);
}

TEST_CASE("what nothing is known of survives") {
  // xor eax, eax; mov rax, [unmapped]; ret
  const Bytes code = {0x31, 0xc0, 0x48, 0xa1, 0, 0, 0, 0, 0x7f, 0, 0, 0, 0xc3};
  CHECK(saved_status(code) == (zero_flag | 0x04));
}

TEST_CASE("a shift by a count that may be zero leaves the flags to whoever reads them") {
  // xor eax, eax; mov rax, [unmapped]; shl ebx, cl; jz +0
  const Bytes code = {0x31, 0xc0, 0x48, 0xa1, 0, 0, 0, 0, 0x7f, 0, 0, 0, 0xd3, 0xe3, 0x74, 0x00};
  CHECK(saved_status(code) == zero_flag);
}

TEST_CASE("SYSCALL saves no status flags") {
  TestGuest guest;
  guest.put(code_at, {0x31, 0xc0, 0x0f, 0x05});
  CpuSnapshot state = guest.user_state();
  state.efer |= 1;
  state.star = std::uint64_t{kernel_code} << 32;
  state.lstar = kernel_base + handlers_at;
  state.sfmask = 0;
  guest.cpu.restore(state);
  CHECK(guest.cpu.run({state.position.steps + 1, 0}) == RunExit::limit);
  const CpuSnapshot after = guest.cpu.snapshot();
  CHECK((after.gpr[11] & status_flags) == 0);
  CHECK((after.rflags & status_flags) == 0);
}

}  // namespace node_mesh::cpu_test
