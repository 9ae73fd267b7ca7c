#include "cpu/stub/test/stub_harness.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

namespace node_mesh {

StubHarness::StubHarness() { x87_power_on(fpu); }

const Stub* StubHarness::find(std::initializer_list<unsigned> bytes) {
  std::array<std::uint8_t, 15> code{};
  std::ranges::transform(bytes, code.begin(),
                         [](unsigned byte) { return static_cast<std::uint8_t>(byte); });
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  ZydisDecodedInstruction instruction;
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
  const ZyanStatus status =
      ZydisDecoderDecodeFull(&decoder, code.data(), code.size(), &instruction, operands.data());
  REQUIRE(ZYAN_SUCCESS(status));
  return cache.find_or_make(instruction, std::span(operands).first(instruction.operand_count),
                            std::span(code).first(instruction.length));
}

StubResult StubHarness::run(std::initializer_list<unsigned> bytes) {
  const Stub* stub = find(bytes);
  REQUIRE(stub != nullptr);
  return stub->run({gpr.data(), &rflags, &fpu, memory.data()});
}

void StubHarness::set_float(unsigned xmm, unsigned lane, float value) {
  std::memcpy(fpu.xmm[xmm].data() + std::size_t{lane} * 4, &value, 4);
}

float StubHarness::get_float(unsigned xmm, unsigned lane) const {
  float value;
  std::memcpy(&value, fpu.xmm[xmm].data() + std::size_t{lane} * 4, 4);
  return value;
}

void StubHarness::set_double(unsigned xmm, double value) {
  std::memcpy(fpu.xmm[xmm].data(), &value, 8);
}

double StubHarness::get_double(unsigned xmm) const {
  double value;
  std::memcpy(&value, fpu.xmm[xmm].data(), 8);
  return value;
}

std::uint16_t StubHarness::x87_status() {
  x87_flush(fpu);
  std::uint16_t value;
  std::memcpy(&value, fpu.x87.data() + 2, 2);
  return value;
}

std::uint64_t StubHarness::x87_significand(unsigned index) {
  x87_flush(fpu);
  std::uint64_t value;
  std::memcpy(&value, fpu.x87.data() + 32 + std::size_t{index} * 16, 8);
  return value;
}

std::uint16_t StubHarness::x87_exponent(unsigned index) {
  x87_flush(fpu);
  std::uint16_t value;
  std::memcpy(&value, fpu.x87.data() + 40 + std::size_t{index} * 16, 2);
  return value;
}

}  // namespace node_mesh
