// One guest's registers and a stub cache: bytes in, effect out.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "cpu/stub/stub.h"

namespace node_mesh {

struct StubHarness {
  StubHarness();

  // The stub of these bytes, or null.
  const Stub* find(std::initializer_list<unsigned> bytes);
  // Finds and runs it.
  StubResult run(std::initializer_list<unsigned> bytes);

  void set_float(unsigned xmm, unsigned lane, float value);
  float get_float(unsigned xmm, unsigned lane) const;
  void set_double(unsigned xmm, double value);
  double get_double(unsigned xmm) const;
  // The x87 state after a flush.
  std::uint16_t x87_status();
  std::uint64_t x87_significand(unsigned index);
  std::uint16_t x87_exponent(unsigned index);

  std::array<std::uint64_t, 16> gpr{};
  std::uint64_t rflags = 2;
  FpuState fpu;
  alignas(64) std::array<std::uint8_t, stub_memory_bytes_max> memory{};
  StubCache cache;
};

}  // namespace node_mesh
