#include "cpu/stub/stub_emitter.h"

#include <array>
#include <bit>
#include <cstddef>
#include <initializer_list>

#include "cpu/stub/stub.h"
#include "machine/check.h"

namespace node_mesh {
namespace {

constexpr unsigned rax = 0, rcx = 1, rdx = 2, rbx = 3, rsp = 4, rbp = 5, rsi = 6, rdi = 7;
constexpr std::uint32_t callee_saved = 1u << rbx | 1u << rbp | 0xf000u;
constexpr std::array<unsigned, 6> bounce_candidates = {rsi, rdi, rdx, rcx, rax, rbx};
constexpr std::array<unsigned, 9> scratch_candidates = {rsi, rdi, rdx, rcx, rax, 8, 9, 10, 11};

constexpr std::array<unsigned, 5> low_scratch = {rax, rcx, rdx, rsi, rdi};

class Writer {
 public:
  std::vector<std::uint8_t> take() { return std::move(bytes_); }

  void put(std::initializer_list<unsigned> bytes) {
    for (const unsigned byte : bytes)
      bytes_.push_back(static_cast<std::uint8_t>(byte));
  }
  void put32(std::uint32_t value) {
    for (unsigned i = 0; i < 4; ++i)
      put({(value >> (8 * i)) & 0xffu});
  }

  // mov to, [base + offset]  /  mov [base + offset], from
  void load64(unsigned to, unsigned base, unsigned offset) { access(0x8b, to, base, offset); }
  void store64(unsigned base, unsigned offset, unsigned from) { access(0x89, from, base, offset); }
  void move64(unsigned to, unsigned from) {
    put({0x48u | (from >> 3) << 2 | to >> 3, 0x89, 0xc0u | (from & 7u) << 3 | (to & 7u)});
  }
  // movaps xmm, [base + 16 * xmm] and back
  void load_xmm(unsigned xmm, unsigned base) { access_xmm(0x28, xmm, base); }
  void store_xmm(unsigned xmm, unsigned base) { access_xmm(0x29, xmm, base); }
  void push(unsigned reg) {
    if (reg > 7) put({0x41});
    put({0x50u | (reg & 7u)});
  }
  void pop(unsigned reg) {
    if (reg > 7) put({0x41});
    put({0x58u | (reg & 7u)});
  }

 private:
  void address(unsigned reg, unsigned base, unsigned offset) {
    NM_CHECK((base & 7u) != rsp);
    put({0x80u | (reg & 7u) << 3 | (base & 7u)});
    put32(offset);
  }
  void short_address(unsigned reg, unsigned base, unsigned offset) {
    NM_CHECK((base & 7u) != rsp);
    put({0x40u | (reg & 7u) << 3 | (base & 7u), offset});
  }
  void access(unsigned opcode, unsigned reg, unsigned base, unsigned offset) {
    put({0x48u | (reg >> 3) << 2 | base >> 3, opcode});
    offset < 128 ? short_address(reg, base, offset) : address(reg, base, offset);
  }
  void access_xmm(unsigned opcode, unsigned xmm, unsigned base) {
    const unsigned rex = (xmm >> 3) << 2 | base >> 3;
    if (rex != 0) put({0x40u | rex});
    put({0x0f, opcode});
    const auto offset = static_cast<unsigned>(offsetof(FpuState, xmm)) + 16 * xmm;
    offset < 128 ? short_address(xmm, base, offset) : address(xmm, base, offset);
  }

  std::vector<std::uint8_t> bytes_;
};

template <std::size_t count>
unsigned pick(const std::array<unsigned, count>& candidates, std::uint32_t used) {
  for (const unsigned candidate : candidates) {
    if ((used >> candidate & 1u) == 0) return candidate;
  }
  NM_CHECK(!"no free register for a stub");
  return rax;
}

// Host registers: the guest's numbers, but for RSP, whose place another one takes.
struct Assignment {
  std::array<unsigned, 16> host{};  // guest number -> host number
  std::uint32_t used = 0;           // host registers the instruction uses
  unsigned bounce = 0, state = 0, operands = 0;
};

bool has_bounce(const StubShape& shape) { return shape.memory_form || shape.bounce_in_rdi; }

Assignment assign(const StubShape& shape) {
  Assignment a;
  a.used = shape.gpr_used & ~(1u << rsp);
  for (unsigned i = 0; i < 16; ++i)
    a.host[i] = i;
  if ((shape.gpr_used >> rsp & 1u) != 0) {
    // The substitute keeps REX.B/R clear and reads as a low byte with and without REX.
    a.host[rsp] = pick(std::array<unsigned, 6>{rbx, rcx, rdx, rax, rbp, rsi}, a.used);
    a.used |= 1u << a.host[rsp];
  }
  std::uint32_t taken = a.used | 1u << rsp;
  if (has_bounce(shape)) {
    a.bounce = shape.bounce_in_rdi ? rdi : pick(bounce_candidates, taken);
    taken |= 1u << a.bounce;
  }
  a.operands = pick(scratch_candidates, taken);
  taken |= 1u << a.operands;
  a.state = pick(scratch_candidates, taken);
  return a;
}

void put_instruction(Writer& out, StubShape shape, const Assignment& a) {
  const unsigned stand_in = a.host[rsp];
  if (shape.reg_is_rsp) shape.reg = static_cast<std::uint8_t>(stand_in);
  if (shape.rm_is_rsp) shape.rm = static_cast<std::uint8_t>(stand_in);
  if (shape.opcode_is_rsp) {
    shape.opcode = static_cast<std::uint8_t>((shape.opcode & ~7u) | stand_in);
  }
  if (shape.prefix_66) out.put({0x66});
  if (shape.repeat_prefix != 0) out.put({shape.repeat_prefix});
  if (shape.has_rex) {
    out.put({0x40u | (shape.rex_w ? 8u : 0u) | (shape.rex_r ? 4u : 0u) | (shape.rex_b ? 1u : 0u)});
  }
  if (shape.map >= 1) out.put({0x0f});
  if (shape.map == 2) out.put({0x38});
  if (shape.map == 3) out.put({0x3a});
  out.put({shape.opcode});
  if (shape.has_modrm) {
    out.put({shape.memory_form ? unsigned{shape.reg} << 3 | a.bounce
                               : 0xc0u | unsigned{shape.reg} << 3 | shape.rm});
  }
  for (unsigned i = 0; i < shape.immediate_bytes; ++i)
    out.put({shape.immediate[i]});
}

void put_prologue(Writer& out, const StubShape& shape, const Assignment& a, std::uint32_t saved) {
  for (unsigned i = 0; i < 16; ++i) {
    if ((saved >> i & 1u) != 0) out.push(i);
  }
  // RSI holds the operands (second argument).
  if (a.operands != rsi) out.move64(a.operands, rsi);
  if (shape.xmm_used != 0) {
    const unsigned fpu = pick(low_scratch, 1u << a.operands);
    out.load64(fpu, a.operands, offsetof(StubOperands, fpu));
    for (unsigned i = 0; i < 16; ++i) {
      if ((shape.xmm_used >> i & 1u) != 0) out.load_xmm(i, fpu);
    }
  }
  if (shape.flags_read != 0) {
    const unsigned t = pick(low_scratch, 1u << a.operands);
    out.load64(t, a.operands, offsetof(StubOperands, rflags));
    out.load64(t, t, 0);
    out.put({0x81, 0xe0u | t});  // and t32, status_flags
    out.put32(static_cast<std::uint32_t>(status_flags));
    out.push(t);
    out.put({0x9d});  // popfq
  }
  if (has_bounce(shape)) out.load64(a.bounce, a.operands, offsetof(StubOperands, memory));
  if (shape.gpr_used != 0) {
    out.load64(a.state, a.operands, offsetof(StubOperands, gpr));
    for (unsigned i = 0; i < 16; ++i) {
      if ((shape.gpr_used >> i & 1u) != 0) out.load64(a.host[i], a.state, 8 * i);
    }
  }
}

void put_epilogue(Writer& out, const StubShape& shape, const Assignment& a, std::uint32_t saved) {
  for (unsigned i = 0; i < 16; ++i) {
    if ((shape.gpr_written >> i & 1u) != 0) out.store64(a.state, 8 * i, a.host[i]);
  }
  if (shape.flags_written != 0) {
    // rflags = (rflags & ~written) | (host flags & written); the GPRs are stored, so all but
    // a.operands are free
    const unsigned host_flags = pick(low_scratch, 1u << a.operands);
    const unsigned pointer = pick(low_scratch, 1u << a.operands | 1u << host_flags);
    const unsigned old_flags =
        pick(low_scratch, 1u << a.operands | 1u << host_flags | 1u << pointer);
    out.put({0x9c});  // pushfq
    out.pop(host_flags);
    out.load64(pointer, a.operands, offsetof(StubOperands, rflags));
    out.load64(old_flags, pointer, 0);
    out.put({0x48, 0x81, 0xe0u | host_flags});
    out.put32(static_cast<std::uint32_t>(shape.flags_written));
    out.put({0x48, 0x81, 0xe0u | old_flags});
    out.put32(~static_cast<std::uint32_t>(shape.flags_written));
    out.put({0x48, 0x09, 0xc0u | host_flags << 3 | old_flags});  // or old_flags, host_flags
    out.store64(pointer, 0, old_flags);
  }
  if (shape.xmm_written != 0) {
    const unsigned fpu = pick(low_scratch, 1u << a.operands);
    out.load64(fpu, a.operands, offsetof(StubOperands, fpu));
    for (unsigned i = 0; i < 16; ++i) {
      if ((shape.xmm_written >> i & 1u) != 0) out.store_xmm(i, fpu);
    }
  }
  for (unsigned i = 16; i-- > 0;) {
    if ((saved >> i & 1u) != 0) out.pop(i);
  }
  out.put({0x31, 0xc0, 0xc3});  // xor eax, eax; ret: StubResult::ok
}

}  // namespace

std::vector<std::uint8_t> emit_stub(StubShape shape, EmitOptions options) {
  static_assert(static_cast<int>(StubResult::ok) == 0);
  const Assignment a = assign(shape);
  const std::uint32_t saved = (a.used | (has_bounce(shape) ? 1u << a.bounce : 0u)) & callee_saved;
  Writer out;
  put_prologue(out, shape, a, saved);
  const auto clear_c1 = [&out] { out.put({0xd9, 0xf7, 0xd9, 0xf6}); };  // fincstp; fdecstp
  if (options.clear_c1_before) clear_c1();
  put_instruction(out, shape, a);
  if (options.clear_c1_after) clear_c1();
  put_epilogue(out, shape, a, saved);
  return out.take();
}

}  // namespace node_mesh
