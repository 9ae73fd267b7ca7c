// One test case and what came out of it. Plain data: it lies in memory shared with the sandbox.
#pragma once

#include <array>
#include <cstdint>

#include "test/differential/layout.h"

namespace node_mesh::differential {

struct State {
  std::array<std::uint64_t, 16> gpr;
  std::uint64_t rip;
  std::uint64_t rflags;
  std::array<std::array<std::uint8_t, 16>, 16> xmm;
  std::array<std::uint8_t, 160> x87;  // the head of an FXSAVE64 image
  std::uint32_t mxcsr;
  std::array<std::uint8_t, data_bytes> data;
  std::array<std::uint8_t, page> constants;
  std::array<std::uint8_t, stack_bytes> stack;
};

enum class CaseKind : std::uint8_t {
  fall_through,  // one instruction that goes on behind itself
  branch,        // one instruction that may go anywhere
  program,       // runs until the INT3 at its end
};

struct Case {
  State start;
  CaseKind kind;
  bool kernel;           // the guest runs it at CPL 0
  std::uint32_t length;  // of the instruction or program
  std::array<std::uint8_t, 1024> code;
  // What the sandbox runs, where it must differ (a prefix that newer CPUs read as something else).
  std::array<std::uint8_t, 1024> native_code;
};

inline constexpr int no_vector = -1;
inline constexpr int did_not_end = -2;

struct Outcome {
  State end;
  int vector;  // the exception that ended it, or no_vector
  std::uint64_t error_code;
  std::uint64_t fault_address;  // of #PF
};

}  // namespace node_mesh::differential
