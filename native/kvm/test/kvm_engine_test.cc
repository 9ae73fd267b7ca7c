// A stretch of user mode ends the same whichever engine ran it, and a KVM that fails ends the run
// with its reason.
#include "kvm/kvm_engine.h"

#include <doctest/doctest.h>

#include "cpu/test/test_guest.h"
#include "kvm/kvm_handle.h"
#include "kvm/test/kvm_available.h"
#include "replay/registers.h"

namespace node_mesh {
namespace {

using cpu_test::TestGuest;

// mov ecx, 1000000; xor eax, eax; again: add eax, ecx; mov [data_at], rax; dec ecx; jnz again;
// int 0x80
const cpu_test::Bytes long_loop = {0xb9, 0x40, 0x42, 0x0f, 0x00, 0x31, 0xc0, 0x01,
                                   0xc8, 0x48, 0x89, 0x04, 0x25, 0x00, 0x00, 0x30,
                                   0x00, 0xff, 0xc9, 0x75, 0xf2, 0xcd, 0x80};

CpuSnapshot linux_like(const TestGuest& guest) {
  CpuSnapshot state = guest.user_state();
  state.cr0 |= cr0::wp;
  state.cr4 |= cr4::osfxsr | cr4::osxmmexcpt;
  state.efer |= efer::sce | efer::nxe;
  return state;
}

struct Run {
  TestGuest guest;
  RunExit exit{};
  CpuSnapshot end;
  std::uint64_t data = 0;
  std::uint64_t stretches = 0;
};

void run_loop_guest(Run& run, const KvmTraits* traits) {
  run.guest.put(cpu_test::code_at, long_loop);
  if (traits != nullptr) {
    auto engine = KvmEngine::create(run.guest.memory, *traits);
    if (!engine) {
      run.exit = RunExit::engine_failed;
      return;
    }
    run.guest.cpu.use_engine(std::move(*engine));
  }
  run.exit = run.guest.run(linux_like(run.guest));
  run.end = run.guest.cpu.snapshot();
  run.data = run.guest.get64(cpu_test::data_at);
  if (traits != nullptr) run.stretches = run.guest.cpu.engine()->counters().stretches;
}

}  // namespace

TEST_CASE("a long loop ends the same in the vCPU and in software") {
  const auto traits = kvm_or_skip();
  if (!traits) return;
  Run software, direct;
  run_loop_guest(software, nullptr);
  run_loop_guest(direct, &*traits);
  REQUIRE(software.exit == RunExit::halted);
  CHECK(direct.exit == software.exit);
  CHECK(direct.stretches == 1);
  CHECK(direct.end.position == software.end.position);
  CHECK(register_values(direct.end) == register_values(software.end));
  CHECK(direct.data == software.data);
}

TEST_CASE("each request to KVM that fails ends the run with a reason, or does no harm") {
  const auto traits = kvm_or_skip();
  if (!traits) return;
  unsigned failed = 0;
  for (int count = 0;; ++count) {
    Run run;
    KvmHandle::fail_after(count);
    run_loop_guest(run, &*traits);
    const bool injected = KvmHandle::failure_was_injected();
    KvmHandle::fail_after(-1);
    if (run.exit == RunExit::engine_failed) {
      ++failed;
      if (run.guest.cpu.engine() != nullptr) CHECK_FALSE(run.guest.cpu.engine_failure().empty());
    } else {
      CHECK(run.exit == RunExit::halted);
    }
    if (!injected) break;
  }
  CHECK(failed > 10);
}

}  // namespace node_mesh
