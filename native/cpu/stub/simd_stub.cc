// SSE floating point under the guest's MXCSR. The host's own MXCSR is in force again when a stub
// returns. Unmasked exceptions are found by running with all of them masked and looking at the
// flags, so the host never takes a SIGFPE.
#include <array>

#include "cpu/stub/stub_plan.h"
#include "cpu/stub/x87_state.h"

namespace node_mesh {
namespace {

constexpr std::uint32_t host_mxcsr = 0x1f80;
constexpr std::uint32_t mxcsr_bits = 0xffff;
constexpr std::uint32_t mxcsr_flags = 0x3f, mxcsr_masks = 0x1f80, mxcsr_flush_to_zero = 0x8000;
constexpr std::uint32_t precomputation_flags = 0x07;  // invalid, denormal, divide by zero
constexpr std::uint32_t underflow = 0x10, inexact = 0x20;

inline void load_mxcsr(std::uint32_t value) { asm volatile("ldmxcsr %0" : : "m"(value)); }

inline std::uint32_t store_mxcsr() {
  std::uint32_t value;
  asm volatile("stmxcsr %0" : "=m"(value));
  return value;
}

struct Registers {
  std::array<std::uint64_t, 16> gpr;
  std::uint64_t rflags;
  decltype(FpuState::xmm) xmm;
};

Registers copy_registers(const StubOperands& operands) {
  Registers copy;
  for (unsigned i = 0; i < 16; ++i)
    copy.gpr[i] = operands.gpr[i];
  copy.rflags = *operands.rflags;
  copy.xmm = operands.fpu->xmm;
  return copy;
}

void put_back(const StubOperands& operands, const Registers& copy) {
  for (unsigned i = 0; i < 16; ++i)
    operands.gpr[i] = copy.gpr[i];
  *operands.rflags = copy.rflags;
  operands.fpu->xmm = copy.xmm;
}

std::uint32_t run_masked(const Stub& stub, const StubOperands& operands, std::uint32_t control) {
  load_mxcsr(control);
  stub.code(stub, operands);
  const std::uint32_t raised = store_mxcsr() & mxcsr_flags;
  load_mxcsr(host_mxcsr);
  return raised;
}

// With underflow unmasked a tiny result raises it even when exact, which the masked run reports
// only when it flushes to zero; if it does report, the exception is taken and no result is needed.
StubResult run_some_unmasked(const Stub& stub, const StubOperands& operands) {
  FpuState& fpu = *operands.fpu;
  const std::uint32_t unmasked = (~fpu.mxcsr >> 7) & mxcsr_flags;
  const std::uint32_t control = (fpu.mxcsr & mxcsr_bits & ~mxcsr_flags) | mxcsr_masks;
  const bool traps_underflow = (unmasked & underflow) != 0;
  const Registers before = copy_registers(operands);
  std::uint32_t raised =
      run_masked(stub, operands, traps_underflow ? control | mxcsr_flush_to_zero : control);
  if (traps_underflow && (raised & underflow) != 0) {
    put_back(operands, before);
    const std::uint32_t kept = run_masked(stub, operands, control & ~mxcsr_flush_to_zero);
    raised = (raised & ~inexact) | (kept & inexact);
  }
  if ((raised & unmasked) == 0) {
    fpu.mxcsr |= raised;
    return StubResult::ok;
  }
  put_back(operands, before);
  const bool before_computing = (raised & unmasked & precomputation_flags) != 0;
  fpu.mxcsr |= before_computing ? raised & precomputation_flags : raised;
  return StubResult::simd_exception;
}

}  // namespace

StubResult run_simd_float(const Stub& stub, const StubOperands& operands) {
  FpuState& fpu = *operands.fpu;
  if ((fpu.mxcsr & mxcsr_masks) != mxcsr_masks) [[unlikely]] {
    return run_some_unmasked(stub, operands);
  }
  load_mxcsr(fpu.mxcsr & mxcsr_bits);
  stub.code(stub, operands);
  fpu.mxcsr = store_mxcsr();
  load_mxcsr(host_mxcsr);
  return StubResult::ok;
}

StubResult run_x87_simd_float(const Stub& stub, const StubOperands& operands) {
  FpuState& fpu = *operands.fpu;
  if (x87_exception_pending(fpu)) return StubResult::x87_exception;
  const bool simple = x87_resident == &fpu && (fpu.mxcsr & mxcsr_masks) == mxcsr_masks;
  if (simple) return run_simd_float(stub, operands);
  const X87Image before = x87_image(fpu);
  StubResult result = StubResult::ok;
  if (before.masks_all()) {
    x87_load(fpu);
    result = run_simd_float(stub, operands);
  } else {
    struct Call {
      const Stub& stub;
      const StubOperands& operands;
      StubResult result;
    } call{stub, operands, StubResult::ok};
    X87Image image = before;
    x87_run_unmasked(
        image,
        [](void* context) {
          Call& c = *static_cast<Call*>(context);
          c.result = run_simd_float(c.stub, c.operands);
        },
        &call);
    x87_set_image(fpu, image);
    result = call.result;
  }
  if (result == StubResult::simd_exception) x87_set_image(fpu, before);
  return result;
}

}  // namespace node_mesh
