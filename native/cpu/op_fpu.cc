// Saving and restoring floating point state, MXCSR, and all instructions that run as native stubs.
#include "cpu/decode.h"
#include "cpu/flags.h"
#include "cpu/fpu_access.h"
#include "cpu/stub/stub.h"
#include "cpu/threading.h"

namespace node_mesh {
namespace {

constexpr u32 mxcsr_writable = 0xffff;
constexpr unsigned fxsave_bytes = 512, xmm_offset = 160, mxcsr_offset = 24;

void require_fxsave(Core* c, const Insn* i, u64 va) {
  bring_fpu(c);
  if (c->cr0 & (cr0::em | cr0::ts)) raise(c, i, vector::nm);
  if (va & 15) raise_error(c, i, vector::gp, 0);
}
// XMM registers belong to the image when CR4.OSFXSR is set; XMM8-15 only in 64-bit mode.
unsigned saved_xmm_bytes(const Core* c) {
  if (!(c->cr4 & cr4::osfxsr)) return 0;
  return c->code64() ? 256 : 128;
}

template <Ea kEa>
void op_fxsave(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  require_fxsave(c, i, va);
  x87_flush(c->fpu);
  u8 image[fxsave_bytes];
  slow_read_for_write(c, i, va, image, fxsave_bytes);  // what is not saved stays as it was
  std::memcpy(image, c->fpu.x87.data(), xmm_offset);
  std::memcpy(image + mxcsr_offset, &c->fpu.mxcsr, sizeof(u32));
  std::memcpy(image + mxcsr_offset + 4, &mxcsr_writable, sizeof(u32));
  std::memcpy(image + xmm_offset, c->fpu.xmm.data(), saved_xmm_bytes(c));
  slow_write(c, i, va, image, fxsave_bytes);
  NM_NEXT;
}

template <Ea kEa>
void op_fxrstor(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  require_fxsave(c, i, va);
  u8 image[fxsave_bytes];
  slow_read(c, i, va, image, fxsave_bytes);
  u32 mxcsr;
  std::memcpy(&mxcsr, image + mxcsr_offset, sizeof mxcsr);
  if ((c->cr4 & cr4::osfxsr) && (mxcsr & ~mxcsr_writable)) raise_error(c, i, vector::gp, 0);
  x87_flush(c->fpu);
  std::memcpy(c->fpu.x87.data(), image, xmm_offset);
  std::memset(c->fpu.x87.data() + mxcsr_offset, 0, 8);
  if (c->cr4 & cr4::osfxsr) c->fpu.mxcsr = mxcsr;
  std::memcpy(c->fpu.xmm.data(), image + xmm_offset, saved_xmm_bytes(c));
  x87_make_canonical(c->fpu);
  NM_NEXT;
}

template <Ea kEa>
void op_ldmxcsr(Core* c, const Insn* i) {
  require_sse(c, i);
  const u32 value = load<u32>(c, i, effective_address<kEa>(c, i));
  if (value & ~mxcsr_writable) raise_error(c, i, vector::gp, 0);
  c->fpu.mxcsr = value;
  NM_NEXT;
}
template <Ea kEa>
void op_stmxcsr(Core* c, const Insn* i) {
  require_sse(c, i);
  store<u32>(c, i, effective_address<kEa>(c, i), c->fpu.mxcsr);
  NM_NEXT;
}

void op_fwait(Core* c, const Insn* i) {
  bring_fpu(c);
  if ((c->cr0 & (cr0::mp | cr0::ts)) == (cr0::mp | cr0::ts)) raise(c, i, vector::nm);
  if (x87_exception_pending(c->fpu)) raise(c, i, vector::mf);
  NM_NEXT;
}
Handler select_fwait(Decoding&) { return op_fwait; }

Handler select_fxsave(Decoding& d) {
  d.memory(0);
  return by_ea(d.ea, []<Ea kEa>() -> Handler { return op_fxsave<kEa>; });
}
Handler select_fxrstor(Decoding& d) {
  d.memory(0);
  return by_ea(d.ea, []<Ea kEa>() -> Handler { return op_fxrstor<kEa>; });
}
Handler select_ldmxcsr(Decoding& d) {
  d.memory(0);
  return by_ea(d.ea, []<Ea kEa>() -> Handler { return op_ldmxcsr<kEa>; });
}
Handler select_stmxcsr(Decoding& d) {
  d.memory(0);
  return by_ea(d.ea, []<Ea kEa>() -> Handler { return op_stmxcsr<kEa>; });
}

// ---- Native stubs

void require_unit(Core* c, const Insn* i, const Stub& stub) {
  switch (stub.unit) {
    case StubUnit::integer:
      return;
    case StubUnit::sse:
      require_sse(c, i);
      break;
    case StubUnit::mmx:
      require_mmx(c, i);
      break;
    case StubUnit::x87:
      require_x87(c, i);
      break;
  }
  if (stub.unit == StubUnit::sse && stub.uses_x87) require_mmx(c, i);
  if (stub.waits && x87_exception_pending(c->fpu)) raise(c, i, vector::mf);
}

[[noreturn]] void raise_stub_exception(Core* c, const Insn* i, StubResult result) {
  if (result == StubResult::x87_exception) raise(c, i, vector::mf);
  raise(c, i, c->cr4 & cr4::osxmmexcpt ? vector::xm : vector::ud);
}

// False: the memory operand must not be written.
bool run_stub(Core* c, const Insn* i, void* memory) {
  u64 flags = c->read_rflags();
  const StubResult result = i->stub->run({c->gpr, &flags, &c->fpu, memory});
  if (result != StubResult::ok && result != StubResult::ok_not_stored) [[unlikely]] {
    raise_stub_exception(c, i, result);
  }
  set_status(c, flags);
  return result == StubResult::ok;
}

[[gnu::noinline]] void run_register_stub(Core* c, const Insn* i) {
  require_unit(c, i, *i->stub);
  run_stub(c, i, nullptr);
}
void op_stub(Core* c, const Insn* i) {
  run_register_stub(c, i);
  NM_NEXT;
}

u8* cached_bytes(const TlbTable& table, u64 va, u64 size) {
  const TlbEntry* entry = tlb_entry(table, va);
  if (entry->tag != ((va + size - 1) & ~page_mask)) return nullptr;
  return reinterpret_cast<u8*>(va + entry->addend);
}

[[gnu::noinline]] void run_memory_stub(Core* c, const Insn* i, u64 va) {
  const Stub& stub = *i->stub;
  require_unit(c, i, stub);
  if (stub.needs_alignment && (va & 15) != 0) raise_error(c, i, vector::gp, 0);
  alignas(64) u8 buffer[stub_memory_bytes_max];
  const unsigned size = stub.memory_bytes;
  u8* target = nullptr;
  if (stub.writes_memory) {
    // What the store would raise must come before the registers change.
    target = cached_bytes(c->tlb_write, va, size);
    if (target == nullptr) {
      slow_read_for_write(c, i, va, buffer, size);
      probe_store(c, i, va, size);
    } else if (stub.reads_memory) {
      std::memcpy(buffer, target, size);
    }
  } else if (const u8* source = cached_bytes(c->tlb_read, va, size)) {
    std::memcpy(buffer, source, size);
  } else {
    slow_read(c, i, va, buffer, size);
  }
  if (!run_stub(c, i, buffer) || !stub.writes_memory) return;
  if (target != nullptr) {
    std::memcpy(target, buffer, size);
  } else {
    slow_write(c, i, va, buffer, size);
  }
}
template <Ea kEa>
void op_stub_memory(Core* c, const Insn* i) {
  run_memory_stub(c, i, effective_address<kEa>(c, i));
  NM_NEXT;
}

}  // namespace

Handler select_stub(Decoding& d, StubCache& stubs) {
  const Stub* stub = stubs.find_or_make(d.zydis, d.all_operands, d.bytes);
  if (stub == nullptr) return nullptr;
  if (stub->memory_bytes == 0) {
    d.out.stub = stub;
    return op_stub;
  }
  for (const ZydisDecodedOperand& operand : d.all_operands) {
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    d.memory(operand);
    d.out.stub = stub;
    return by_ea(d.ea, []<Ea kEa>() -> Handler { return op_stub_memory<kEa>; });
  }
  return nullptr;
}

void register_fpu(SelectorTable& table) {
  table[ZYDIS_MNEMONIC_FXSAVE] = select_fxsave;
  table[ZYDIS_MNEMONIC_FXSAVE64] = select_fxsave;
  table[ZYDIS_MNEMONIC_FXRSTOR] = select_fxrstor;
  table[ZYDIS_MNEMONIC_FXRSTOR64] = select_fxrstor;
  table[ZYDIS_MNEMONIC_LDMXCSR] = select_ldmxcsr;
  table[ZYDIS_MNEMONIC_STMXCSR] = select_stmxcsr;
  table[ZYDIS_MNEMONIC_FWAIT] = select_fwait;
}

}  // namespace node_mesh
