// The guest's x87 state: its canonical image in memory, and whether it is in the host's FPU at the
// moment. The host's FPU never holds unmasked exceptions outside the few instructions of
// `x87_run_unmasked`: an x87 instruction of the monitor itself would raise them as SIGFPE.
#pragma once

#include <array>
#include <cstdint>

#include "cpu/fpu_state.h"

namespace node_mesh {

inline constexpr std::uint16_t x87_exception_flags = 0x3f;
inline constexpr std::uint16_t x87_invalid = 0x01, x87_denormal = 0x02, x87_zero_divide = 0x04,
                               x87_overflow = 0x08, x87_underflow = 0x10, x87_inexact = 0x20,
                               x87_stack_fault = 0x40, x87_error_summary = 0x80, x87_c0 = 0x100,
                               x87_c1 = 0x200, x87_c2 = 0x400, x87_c3 = 0x4000, x87_busy = 0x8000;

struct X87Register {
  std::uint64_t significand;
  std::uint16_t exponent;  // with the sign in bit 15
  std::array<std::uint8_t, 6> reserved;
};

// The first 160 bytes of an FXSAVE64 image. `st` counts from the top of the stack.
struct X87Image {
  std::uint16_t control;
  std::uint16_t status;
  std::uint8_t valid;  // abridged tag word: bit n = physical register n is not empty
  std::uint8_t reserved;
  std::uint16_t opcode;
  std::uint64_t instruction_pointer;
  std::uint64_t data_pointer;
  std::uint32_t mxcsr;
  std::uint32_t mxcsr_mask;
  std::array<X87Register, 8> st;

  unsigned top() const { return (status >> 11) & 7u; }
  void set_top(unsigned value) {
    status = static_cast<std::uint16_t>((status & ~0x3800u) | (value & 7u) << 11);
  }
  bool is_empty(unsigned index) const { return ((valid >> ((top() + index) & 7u)) & 1u) == 0; }
  bool masks_all() const { return (control & x87_exception_flags) == x87_exception_flags; }
  bool exception_pending() const {
    return (status & static_cast<unsigned>(~control) & x87_exception_flags) != 0;
  }
};
static_assert(sizeof(X87Image) == 160);

// The canonical image; flushes the host's FPU first if it holds this state.
X87Image x87_image(FpuState& fpu);
// Makes `image` canonical and stores it.
void x87_set_image(FpuState& fpu, X87Image image);

// Moves the top of the stack; the physical registers keep their contents.
void x87_move_top(X87Image& image, unsigned top);
// The register under the new top is overwritten and marked full.
void x87_push(X87Image& image, const X87Register& value);
// The old top is marked empty.
void x87_pop(X87Image& image);

// FNINIT: control, status and tags, not the registers' contents.
void x87_initialise(X87Image& image);

// The state that the host's FPU of this thread holds, or null.
extern thread_local FpuState* x87_resident;
// Loads it; only for states that mask all exceptions.
void x87_load(FpuState& fpu);

// Loads `image`, calls `run(context)`, reads the image back (canonical) and leaves the host's FPU
// initialised. For states with unmasked exceptions.
void x87_run_unmasked(X87Image& image, void (*run)(void*), void* context);

}  // namespace node_mesh
