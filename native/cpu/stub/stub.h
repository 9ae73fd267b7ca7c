// Native stubs: an instruction of the guest that is neither privileged nor able to fault by itself,
// made once into a small host routine that runs that very instruction on the guest's registers with
// its memory operand moved into a bounce buffer. The reason: SSE and x87 exactly as the CPU does
// them without writing hundreds of instructions again.
//
// A stub never sees: privileged instructions, control flow, hidden memory or RSP operands, string
// instructions, DIV/IDIV, BT* with a memory operand, FXSAVE/FXRSTOR/LDMXCSR/STMXCSR, EMMS is fine.
#pragma once

#include <Zydis/Zydis.h>

#include <cstdint>
#include <memory>
#include <span>

#include "cpu/fpu_state.h"

namespace node_mesh {

enum class StubResult : std::uint8_t {
  ok,
  simd_exception,  // #XM: an unmasked SSE exception; nothing was written
  x87_exception,   // #MF: an unmasked x87 exception was pending before this waiting instruction
};

struct StubOperands {
  std::uint64_t* gpr;     // 16 general purpose registers in encoding order
  std::uint64_t* rflags;  // only CF PF AF ZF SF OF are read and written
  FpuState* fpu;
  void* memory;           // bounce buffer, 64 bytes, 64-aligned; unused when memory_bytes == 0
};

struct Stub {
  std::uint8_t memory_bytes = 0;  // size of the memory operand, 0 if none
  bool reads_memory = false;
  bool writes_memory = false;
  bool uses_x87 = false;          // touches x87 or MMX state
  StubResult run(const StubOperands& operands) const;
  const void* code = nullptr;     // private to the stub folder
  const void* plan = nullptr;     // private to the stub folder
};

class StubCache {
 public:
  StubCache();
  ~StubCache();
  // The stub for this instruction, shared between all places that hold the same bytes (modulo the
  // memory operand's address registers); nullptr when it must not or cannot run natively.
  const Stub* find_or_make(const ZydisDecodedInstruction& instruction,
                           std::span<const ZydisDecodedOperand> operands,
                           std::span<const std::uint8_t> bytes);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace node_mesh
