// Near control flow: JMP Jcc CALL RET LOOP JRCXZ, and the ends of blocks. Inside a page branches
// follow links between blocks; everything else goes through the jump entries by virtual address.
#include "cpu/decode.h"
#include "cpu/flags.h"
#include "cpu/stack.h"
#include "cpu/threading.h"

namespace node_mesh {

void branch_unlinked(Core* c, const Insn* i) {
  const u64 va = c->page_va + static_cast<u64>(static_cast<s64>(i->disp));
  if (Block* block = c->blocks->link_target(va)) {
    i->link = block;
    return enter_block(c, block, i->left - 1u);
  }
  c->icount -= i->left - 1u;
  c->rip = va;
  NM_LEAVE;
}

// Falls through from the last instruction of a block; counts nothing itself.
void op_end_of_block(Core* c, const Insn* i) {
  if (i->disp >= static_cast<s32>(page_bytes)) {
    return branch_to(c, c->page_va + static_cast<u64>(i->disp), 0);
  }
  if (const Block* block = i->link) [[likely]]
    return enter_block(c, block, 0);
  const u64 va = c->page_va + static_cast<u64>(i->disp);
  if (Block* block = c->blocks->link_target(va)) {
    i->link = block;
    return enter_block(c, block, 0);
  }
  c->rip = va;
  NM_LEAVE;
}

void op_end_of_single(Core* c, const Insn* i) {
  c->rip = c->page_va + static_cast<u64>(i->disp);
  NM_LEAVE;
}

namespace {

// Branches out of the page keep their distance from the page's start in `imm`.
u64 far_target(const Core* c, const Insn* i) { return c->page_va + i->imm; }
// Outside 64-bit mode the instruction pointer has 32 (or, with an operand prefix, 16) bits.
template <class T>
u64 wrapped_target(const Core* c, const Insn* i) {
  return c->code_base + static_cast<T>(far_target(c, i) - c->code_base);
}

template <unsigned kCondition>
void jcc_in_page(Core* c, const Insn* i) {
  if (condition<kCondition>(c->flags)) return branch_in_page(c, i);
  NM_NEXT;
}
template <unsigned kCondition>
void jcc_out(Core* c, const Insn* i) {
  if (condition<kCondition>(c->flags)) return branch_to(c, far_target(c, i), i->left - 1u);
  NM_NEXT;
}
template <unsigned kCondition, class T>
void jcc_wrapped(Core* c, const Insn* i) {
  if (condition<kCondition>(c->flags)) return branch_to(c, wrapped_target<T>(c, i), i->left - 1u);
  NM_NEXT;
}
void jmp_in_page(Core* c, const Insn* i) { return branch_in_page(c, i); }
void jmp_out(Core* c, const Insn* i) { return branch_to(c, far_target(c, i), 0); }
template <class T>
void jmp_wrapped(Core* c, const Insn* i) {
  return branch_to(c, wrapped_target<T>(c, i), 0);
}

// An indirect branch to a non-canonical address faults at the branch.
void check_target(Core* c, const Insn* i, u64 va) {
  if (c->code64() && !is_canonical(va)) raise_error(c, i, vector::gp, 0);
}

bool set_relative_target(Decoding& d) {
  if (d.code64() || (d.zydis.operand_width == 32 && d.target_in_page())) {
    if (d.target_in_page()) {
      d.out.disp = static_cast<s32>(d.target());
      return true;
    }
  }
  d.out.imm = static_cast<u64>(d.target());
  return false;
}

Handler select_jcc(Decoding& d) {
  const bool in_page = set_relative_target(d);
  if (in_page) d.branch_condition = d.zydis.opcode & 15;
  return by_condition(d.zydis.opcode, [&]<unsigned kCondition>() -> Handler {
    if (in_page) return jcc_in_page<kCondition>;
    if (d.code64()) return jcc_out<kCondition>;
    return d.zydis.operand_width == 16 ? jcc_wrapped<kCondition, u16>
                                       : jcc_wrapped<kCondition, u32>;
  });
}

template <Ea kEa, class T, bool kSlow>
[[gnu::noinline]] void jmp_m(Core* c, const Insn* i) {
  NM_LOAD(T, ip, effective_address<kEa>(c, i), (jmp_m<kEa, T, true>));
  const u64 va = sizeof(T) == 8 ? u64{ip} : c->code_base + ip;
  if (jump_entry(c, va)->va != va) [[unlikely]]
    check_target(c, i, va);
  return branch_to(c, va, 0);
}
template <class T>
void jmp_r(Core* c, const Insn* i) {
  const T ip = get_reg<T>(c, i->reg);
  const u64 va = sizeof(T) == 8 ? u64{ip} : c->code_base + ip;
  if (jump_entry(c, va)->va != va) [[unlikely]]
    check_target(c, i, va);
  return branch_to(c, va, 0);
}

Handler select_jmp(Decoding& d) {
  if (d.zydis.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return nullptr;
  d.ends_block = true;
  if (d.is_immediate(0)) {
    if (set_relative_target(d)) return jmp_in_page;
    if (d.code64()) return jmp_out;
    return d.zydis.operand_width == 16 ? jmp_wrapped<u16> : jmp_wrapped<u32>;
  }
  if (d.is_memory(0)) {
    d.memory(0);
    return by_wide_width(d.width(0), [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return jmp_m<kEa, T, false>; });
    });
  }
  d.out.reg = d.gpr(0);
  return by_wide_width(d.width(0), []<class T>() -> Handler { return jmp_r<T>; });
}

template <bool kInPage, bool kSlow>
[[gnu::noinline]] void call_direct(Core* c, const Insn* i) {
  const u64 sp = c->gpr[rsp] - 8;
  const u64 back = next_address(c, i);
  NM_STORE(u64, sp, back, (call_direct<kInPage, true>));
  c->gpr[rsp] = sp;
  if constexpr (kInPage) return branch_in_page(c, i);
  return branch_to(c, far_target(c, i), 0);
}
template <bool kSlow>
[[gnu::noinline]] void call_r(Core* c, const Insn* i) {
  const u64 va = get_reg<u64>(c, i->reg);
  if (jump_entry(c, va)->va != va) [[unlikely]]
    check_target(c, i, va);
  const u64 sp = c->gpr[rsp] - 8;
  const u64 back = next_address(c, i);
  NM_STORE(u64, sp, back, (call_r<true>));
  c->gpr[rsp] = sp;
  return branch_to(c, va, 0);
}
template <Ea kEa>
void call_m(Core* c, const Insn* i) {
  const u64 va = load<u64>(c, i, effective_address<kEa>(c, i));
  check_target(c, i, va);
  push<u64>(c, i, next_address(c, i));
  return branch_to(c, va, 0);
}
template <class T>
void call_direct_any(Core* c, const Insn* i) {
  push<T>(c, i, static_cast<T>(next_address(c, i) - c->code_base));
  return branch_to(c, wrapped_target<T>(c, i), 0);
}
template <class T>
void call_r_any(Core* c, const Insn* i) {
  const T ip = get_reg<T>(c, i->reg);
  push<T>(c, i, static_cast<T>(next_address(c, i) - c->code_base));
  return branch_to(c, c->code_base + ip, 0);
}
template <class T, Ea kEa>
void call_m_any(Core* c, const Insn* i) {
  const T ip = load<T>(c, i, effective_address<kEa>(c, i));
  push<T>(c, i, static_cast<T>(next_address(c, i) - c->code_base));
  return branch_to(c, c->code_base + ip, 0);
}

// Outside 64-bit mode.
Handler select_call_any(Decoding& d) {
  const bool narrow = d.zydis.operand_width == 16;
  d.out.extra = 0;
  if (d.is_immediate(0)) {
    d.out.imm = static_cast<u64>(d.target());
    return narrow ? call_direct_any<u16> : call_direct_any<u32>;
  }
  if (d.is_memory(0)) {
    d.memory(0);
    return by_ea(d.ea, [&]<Ea kEa>() -> Handler {
      return narrow ? call_m_any<u16, kEa> : call_m_any<u32, kEa>;
    });
  }
  d.out.reg = d.gpr(0);
  return narrow ? call_r_any<u16> : call_r_any<u32>;
}

Handler select_call(Decoding& d) {
  if (d.zydis.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return nullptr;
  d.ends_block = true;
  d.out.extra |= insn_stack_segment;
  if (!d.code64()) return select_call_any(d);
  if (d.is_immediate(0)) {
    return set_relative_target(d) ? call_direct<true, false> : call_direct<false, false>;
  }
  if (d.is_memory(0)) {
    d.out.extra = 0;
    d.memory(0);
    return by_ea(d.ea, []<Ea kEa>() -> Handler { return call_m<kEa>; });
  }
  d.out.reg = d.gpr(0);
  return call_r<false>;
}

// A return to where no block is known.
[[gnu::noinline]] void ret64_elsewhere(Core* c, const Insn* i) {
  const u64 va = load<u64>(c, i, c->gpr[rsp]);
  check_target(c, i, va);
  c->gpr[rsp] += 8 + i->imm;
  c->rip = va;
  NM_LEAVE;
}
template <bool kSlow>
[[gnu::noinline]] void ret64(Core* c, const Insn* i) {
  const u64 sp = c->gpr[rsp];
  NM_LOAD(u64, va, sp, ret64<true>);
  const JumpEntry* entry = jump_entry(c, va);
  if (entry->va != va) [[unlikely]]
    return ret64_elsewhere(c, i);
  c->gpr[rsp] = sp + 8 + i->imm;
  c->page_va = va & ~page_mask;
  return enter_block(c, entry->block, 0);
}
template <class T>
void ret_any(Core* c, const Insn* i) {
  const T ip = peek_stack<T>(c, i, 0);
  move_stack(c, sizeof(T) + i->imm);
  return branch_to(c, c->code_base + ip, 0);
}
Handler select_ret(Decoding& d) {
  if (d.zydis.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return nullptr;
  d.ends_block = true;
  d.out.extra |= insn_stack_segment;
  d.out.imm = d.is_immediate(0) ? d.immediate(0) & 0xffff : 0;
  if (d.code64()) return ret64<false>;
  return d.zydis.operand_width == 16 ? ret_any<u16> : ret_any<u32>;
}

// LOOP, LOOPE, LOOPNE and JRCXZ; the counter has the address size.
enum class Loop : u8 { always, equal, not_equal, zero };
template <Loop kLoop, class T>
void op_loop(Core* c, const Insn* i) {
  T count = get_reg<T>(c, gpr_offset(rcx));
  bool taken;
  if constexpr (kLoop == Loop::zero) {
    taken = count == 0;
  } else {
    count = static_cast<T>(count - 1);
    set_reg<T>(c, gpr_offset(rcx), count);
    taken = count != 0;
    if (kLoop == Loop::equal) taken = taken && (c->flags & status::zf);
    if (kLoop == Loop::not_equal) taken = taken && !(c->flags & status::zf);
  }
  if (!taken) NM_NEXT;
  return branch_to(c, c->code64() ? far_target(c, i) : wrapped_target<u32>(c, i), i->left - 1u);
}
template <Loop kLoop>
Handler select_loop(Decoding& d) {
  d.out.imm = static_cast<u64>(d.target());
  switch (d.zydis.address_width) {
    case 16:
      return op_loop<kLoop, u16>;
    case 32:
      return op_loop<kLoop, u32>;
    default:
      return op_loop<kLoop, u64>;
  }
}

}  // namespace

// A JMP, CALL or RET that is far belongs to op_far_control.cc.
Handler select_near_jmp(Decoding& d) { return select_jmp(d); }
Handler select_near_call(Decoding& d) { return select_call(d); }
Handler select_near_ret(Decoding& d) { return select_ret(d); }

void register_control(SelectorTable& table) {
  for (const ZydisMnemonic jcc :
       {ZYDIS_MNEMONIC_JB, ZYDIS_MNEMONIC_JBE, ZYDIS_MNEMONIC_JL, ZYDIS_MNEMONIC_JLE,
        ZYDIS_MNEMONIC_JNB, ZYDIS_MNEMONIC_JNBE, ZYDIS_MNEMONIC_JNL, ZYDIS_MNEMONIC_JNLE,
        ZYDIS_MNEMONIC_JNO, ZYDIS_MNEMONIC_JNP, ZYDIS_MNEMONIC_JNS, ZYDIS_MNEMONIC_JNZ,
        ZYDIS_MNEMONIC_JO, ZYDIS_MNEMONIC_JP, ZYDIS_MNEMONIC_JS, ZYDIS_MNEMONIC_JZ}) {
    table[jcc] = select_jcc;
  }
  table[ZYDIS_MNEMONIC_LOOP] = select_loop<Loop::always>;
  table[ZYDIS_MNEMONIC_LOOPE] = select_loop<Loop::equal>;
  table[ZYDIS_MNEMONIC_LOOPNE] = select_loop<Loop::not_equal>;
  table[ZYDIS_MNEMONIC_JCXZ] = select_loop<Loop::zero>;
  table[ZYDIS_MNEMONIC_JECXZ] = select_loop<Loop::zero>;
  table[ZYDIS_MNEMONIC_JRCXZ] = select_loop<Loop::zero>;
}

}  // namespace node_mesh
