// Native stubs: an instruction of the guest that is neither privileged nor able to fault by itself,
// made once into a small host routine that runs that very instruction on the guest's registers with
// its memory operand moved into a bounce buffer. The reason: SSE and x87 exactly as the CPU does
// them without writing hundreds of instructions again. What CPU vendors do differently (reciprocal
// estimates, x87 transcendentals, undefined flags) is computed in software, so that all copies of a
// machine agree.
//
// A stub never sees: privileged instructions, control flow, hidden memory (but that of MASKMOVQ and
// MASKMOVDQU, which counts as their memory operand) or RSP operands, string instructions, DIV/IDIV,
// BT* with a memory operand, FXSAVE/FXRSTOR/LDMXCSR/STMXCSR. EMMS is fine.
#pragma once

#include <Zydis/Zydis.h>

#include <cstdint>
#include <memory>
#include <span>

#include "cpu/fpu_state.h"

namespace node_mesh {

// The largest memory operand: FNSAVE writes 108 bytes.
inline constexpr std::size_t stub_memory_bytes_max = 128;

enum class StubResult : std::uint8_t {
  ok,
  ok_not_stored,   // executed, but the memory operand was not written (an unmasked x87 exception
                   // of a store: it is pending now); the caller must not write guest memory
  simd_exception,  // #XM: an unmasked SSE exception; only the MXCSR flags were written
  x87_exception,   // #MF: an unmasked x87 exception was pending before this waiting instruction
};

struct StubOperands {
  std::uint64_t* gpr;     // 16 general purpose registers in encoding order
  std::uint64_t* rflags;  // only CF PF AF ZF SF OF are read and written
  FpuState* fpu;
  void* memory;  // bounce buffer, stub_memory_bytes_max bytes, 64-aligned;
                 // unused when memory_bytes == 0
};

// What the instruction works on: decides which of #UD and #NM the caller checks for (CR0.EM,
// CR0.TS, CR4.OSFXSR).
enum class StubUnit : std::uint8_t { integer, x87, mmx, sse };

struct Stub {
  std::uint8_t memory_bytes = 0;  // size of the memory operand, 0 if none
  bool reads_memory = false;
  bool writes_memory = false;
  bool uses_x87 = false;         // touches x87 or MMX state
  bool needs_alignment = false;  // #GP unless the memory operand is aligned to 16 bytes
  bool waits = false;            // #MF comes before the memory access: see x87_exception_pending
  StubUnit unit = StubUnit::integer;
  // Private to the stub folder: the routine to enter, the generated code, the plan behind it.
  using Entry = StubResult (*)(const Stub& stub, const StubOperands& operands);
  Entry entry = nullptr;
  Entry code = nullptr;
  const void* plan = nullptr;

  StubResult run(const StubOperands& operands) const { return entry(*this, operands); }
};

class StubCache {
 public:
  StubCache();
  ~StubCache();
  StubCache(const StubCache&) = delete;
  StubCache& operator=(const StubCache&) = delete;

  // The stub for this instruction, shared between all places that hold the same bytes (modulo the
  // memory operand's address registers); nullptr when it must not or cannot run natively.
  const Stub* find_or_make(const ZydisDecodedInstruction& instruction,
                           std::span<const ZydisDecodedOperand> operands,
                           std::span<const std::uint8_t> bytes);

  // A hostile guest can run tens of millions of different instructions. Once this says true the
  // caller drops every Stub pointer it keeps and calls clear(); results never depend on when.
  bool full() const;
  void clear();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// x87 and MMX state of at most one FpuState per thread stays in the host's FPU between stubs, as
// long as the guest masks all x87 exceptions (loading and storing it costs 80 ns). While it does,
// `FpuState::x87` is stale and the thread must do no `long double` arithmetic. The CPU calls
// x87_flush before anything else reads or writes `FpuState::x87`, and before its run ends.
void x87_flush(FpuState& fpu);

// Whether an unmasked x87 exception waits: #MF then precedes any fault of the memory operand.
bool x87_exception_pending(const FpuState& fpu);

// Brings an FXSAVE image that the guest or a snapshot supplied into the canonical form: no
// instruction and data pointers (FIP, FDP, FOP read as 0 always), reserved bits clear, ES and B as
// the flags demand. Everything that writes `FpuState::x87` calls it.
void x87_make_canonical(FpuState& fpu);

// FNINIT's state with all registers empty and zero: the state after power on.
void x87_power_on(FpuState& fpu);

}  // namespace node_mesh
