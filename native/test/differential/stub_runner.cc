#include "test/differential/stub_runner.h"

#include <cstring>

#include "test/differential/expectation.h"

namespace node_mesh::differential {
namespace {

constexpr std::uint64_t status = 0x8d5;

}  // namespace

bool StubRunner::run(const Case& test, const Decoded& d, Outcome& outcome) {
  if (cache_.full()) cache_.clear();
  const Stub* stub = cache_.find_or_make(d.instruction, d.all_operands(),
                                         std::span(d.bytes).first(d.instruction.length));
  if (stub == nullptr) return false;
  outcome.end = test.start;
  State& end = outcome.end;
  std::uint8_t* operand = nullptr;
  if (stub->memory_bytes != 0) {
    const std::uint64_t offset = operand_address(test, d) - data_address;
    if (offset >= data_bytes || data_bytes - offset < stub->memory_bytes) return false;
    if (stub->needs_alignment && offset % 16 != 0) return false;
    operand = end.data.data() + offset;
  }
  FpuState fpu;
  std::memcpy(fpu.xmm.data(), test.start.xmm.data(), sizeof fpu.xmm);
  std::memcpy(fpu.x87.data(), test.start.x87.data(), test.start.x87.size());
  fpu.mxcsr = test.start.mxcsr;
  x87_make_canonical(fpu);
  alignas(64) std::array<std::uint8_t, stub_memory_bytes_max> bounce{};
  if (stub->reads_memory) std::memcpy(bounce.data(), operand, stub->memory_bytes);
  const StubResult result = stub->run({end.gpr.data(), &end.rflags, &fpu, bounce.data()});
  x87_flush(fpu);
  if (stub->writes_memory && result == StubResult::ok) {
    std::memcpy(operand, bounce.data(), stub->memory_bytes);
  }
  std::memcpy(end.xmm.data(), fpu.xmm.data(), sizeof end.xmm);
  std::memcpy(end.x87.data(), fpu.x87.data(), end.x87.size());
  end.mxcsr = fpu.mxcsr;
  end.rflags &= status;
  const bool faulted = result == StubResult::simd_exception || result == StubResult::x87_exception;
  end.rip = test.start.rip + (faulted ? 0 : test.length);
  outcome.vector = !faulted ? no_vector : result == StubResult::simd_exception ? 19 : 16;
  outcome.error_code = 0;
  outcome.fault_address = 0;
  return true;
}

}  // namespace node_mesh::differential
