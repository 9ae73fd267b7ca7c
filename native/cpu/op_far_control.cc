// Control flow between segments and privilege levels: far JMP CALL RET, IRET, INT, SYSCALL, SYSRET.
// Call gates and task switches stop the monitor with a report; no 64-bit kernel uses them.
#include "cpu/decode.h"
#include "cpu/segmentation.h"
#include "cpu/stack.h"
#include "cpu/threading.h"

namespace node_mesh {

Handler select_near_jmp(Decoding& d);
Handler select_near_call(Decoding& d);
Handler select_near_ret(Decoding& d);

namespace {

void require_code_target(Core* c, const Insn* i, const Descriptor& code, u16 selector, u64 ip) {
  const u32 error = selector & 0xfffcu;
  if (!code.present()) raise_error(c, i, vector::np, error);
  if (code.long_mode() && code.default_big()) raise_error(c, i, vector::gp, error);
  const bool fits = code.long_mode() ? is_canonical(ip) : ip <= code.limit();
  if (!fits) raise_error(c, i, vector::gp, 0);
}

// The target of a far JMP or CALL, at the same privilege level.
Descriptor read_far_target(Core* c, const Insn* i, u16 selector, u64 ip) {
  const u32 error = selector & 0xfffcu;
  if (error == 0) raise_error(c, i, vector::gp, 0);
  Descriptor code;
  if (!read_descriptor(c, i, selector, code)) raise_error(c, i, vector::gp, error);
  if (!code.is_segment() && code.type() == 12) {
    raise_unsupported(c, i, "a far branch through a call gate");
  }
  if (!code.is_code()) raise_error(c, i, vector::gp, error);
  const bool allowed =
      code.conforming() ? code.dpl() <= c->cpl : (selector & 3u) <= c->cpl && code.dpl() == c->cpl;
  if (!allowed) raise_error(c, i, vector::gp, error);
  require_code_target(c, i, code, selector, ip);
  return code;
}

void enter_far_target(Core* c, u16 selector, const Descriptor& code, u64 ip) {
  load_code_segment(c, static_cast<u16>((selector & ~3u) | c->cpl), code, c->cpl);
  c->rip = c->linear_ip(ip);
  update_modes(c);
}

template <class T, bool kCall>
void far_branch(Core* c, const Insn* i, u16 selector, u64 ip) {
  Descriptor code = read_far_target(c, i, selector, ip);
  mark_descriptor(c, i, selector, code, 40);
  if constexpr (kCall) {
    const u64 before = c->gpr[rsp];
    // Both slots must be writable before either is written.
    probe_write(c, i, stack_top(c, u64{0} - 2 * sizeof(T)), 2 * sizeof(T));
    push<T>(c, i, static_cast<T>(c->segments[seg_cs].selector));
    const u64 between = c->gpr[rsp];
    c->gpr[rsp] = before;
    store<T>(c, i, stack_top(c, u64{0} - 2 * sizeof(T)),
             static_cast<T>(c->architectural_ip(next_address(c, i))));
    c->gpr[rsp] = between;
    move_stack(c, u64{0} - sizeof(T));
  }
  enter_far_target(c, selector, code, ip);
}

template <class T, Ea kEa, bool kCall>
void far_branch_m(Core* c, const Insn* i) {
  const u64 va = effective_address<kEa>(c, i);
  const T ip = load<T>(c, i, va);
  const u16 selector = load<u16>(c, i, va + sizeof(T));
  far_branch<T, kCall>(c, i, selector, ip);
  NM_LEAVE;
}
template <class T, bool kCall>
void far_branch_i(Core* c, const Insn* i) {
  far_branch<T, kCall>(c, i, static_cast<u16>(i->imm >> 32), static_cast<u32>(i->imm));
  NM_LEAVE;
}

template <bool kCall>
Handler select_far_branch(Decoding& d) {
  d.ends_block = true;
  const unsigned bits = d.zydis.operand_width;
  if (d.is_memory(0)) {
    d.memory(0);
    return by_wide_width(bits, [&]<class T>() {
      return by_ea(d.ea, []<Ea kEa>() -> Handler { return far_branch_m<T, kEa, kCall>; });
    });
  }
  if (d.operands[0].type != ZYDIS_OPERAND_TYPE_POINTER) return nullptr;
  d.out.imm = u64{d.operands[0].ptr.segment} << 32 | d.operands[0].ptr.offset;
  return bits == 16 ? far_branch_i<u16, kCall> : far_branch_i<u32, kCall>;
}

// What IRET and far RET take from the stack.
struct Return {
  u64 ip = 0, flags = 0, sp = 0;
  u16 cs = 0, ss = 0;
  bool with_stack = false;
};

// Checks and loads CS and, with a stack, SS:RSP. Nothing changes before all checks are done.
void commit_return(Core* c, const Insn* i, const Return& to) {
  const u32 error = to.cs & 0xfffcu;
  const unsigned rpl = to.cs & 3;
  if (error == 0) raise_error(c, i, vector::gp, 0);
  Descriptor code;
  if (!read_descriptor(c, i, to.cs, code)) raise_error(c, i, vector::gp, error);
  if (!code.is_code() || rpl < c->cpl) raise_error(c, i, vector::gp, error);
  if (code.conforming() ? code.dpl() > rpl : code.dpl() != rpl) {
    raise_error(c, i, vector::gp, error);
  }
  require_code_target(c, i, code, to.cs, to.ip);
  Descriptor stack;
  const u32 stack_error = to.ss & 0xfffcu;
  if (to.with_stack && stack_error == 0) {
    if (!code.long_mode() || rpl == 3 || (to.ss & 3u) != rpl) raise_error(c, i, vector::gp, 0);
  } else if (to.with_stack) {
    if (!read_descriptor(c, i, to.ss, stack)) raise_error(c, i, vector::gp, stack_error);
    if ((to.ss & 3u) != rpl || !stack.writable() || stack.dpl() != rpl) {
      raise_error(c, i, vector::gp, stack_error);
    }
    if (!stack.present()) raise_error(c, i, vector::ss, stack_error);
    mark_descriptor(c, i, to.ss, stack, 40);
  }
  mark_descriptor(c, i, to.cs, code, 40);
  const bool outward = rpl > c->cpl;
  const bool enters_user = rpl == 3 && !c->user();
  load_code_segment(c, to.cs, code, rpl);
  if (to.with_stack) {
    if (stack_error == 0) {
      load_null_stack(c, to.ss);
    } else {
      load_segment(c, seg_ss, to.ss, stack);
    }
    set_stack_pointer(c, to.sp);
  }
  if (outward) drop_inner_data_segments(c);
  if (enters_user) enter_user_mode(c);
  c->rip = c->linear_ip(to.ip);
}

template <class T>
void op_iret(Core* c, const Insn* i) {
  if (c->sysflags & rflags::nt) raise_error(c, i, vector::gp, 0);
  Return to;
  to.ip = peek_stack<T>(c, i, 0);
  to.cs = static_cast<u16>(peek_stack<T>(c, i, sizeof(T)));
  to.flags = peek_stack<T>(c, i, 2 * sizeof(T));
  to.with_stack = c->code64() || (to.cs & 3u) > c->cpl;
  if (to.with_stack) {
    to.sp = peek_stack<T>(c, i, 3 * sizeof(T));
    to.ss = static_cast<u16>(peek_stack<T>(c, i, 4 * sizeof(T)));
  }
  u64 mask = rflags::status_bits | rflags::tf | rflags::df | rflags::nt;
  if (sizeof(T) > 2) mask |= rflags::rf | rflags::ac | rflags::id;
  if (c->cpl <= (c->sysflags & rflags::iopl) >> 12) mask |= rflags::interrupt;
  if (c->cpl == 0) mask |= rflags::iopl;
  const u64 stack_after = c->gpr[rsp] + 3 * sizeof(T);
  commit_return(c, i, to);
  if (!to.with_stack) set_stack_pointer(c, stack_after);
  write_rflags(c, to.flags, mask);
  update_modes(c);
  NM_LEAVE;
}
Handler select_iret(Decoding& d) {
  d.ends_block = true;
  return by_wide_width(d.zydis.operand_width, []<class T>() -> Handler { return op_iret<T>; });
}

template <class T>
void op_far_ret(Core* c, const Insn* i) {
  Return to;
  to.ip = peek_stack<T>(c, i, 0);
  to.cs = static_cast<u16>(peek_stack<T>(c, i, sizeof(T)));
  to.with_stack = (to.cs & 3u) > c->cpl;
  if (to.with_stack) {
    to.sp = peek_stack<T>(c, i, 2 * sizeof(T) + i->imm) + i->imm;
    to.ss = static_cast<u16>(peek_stack<T>(c, i, 3 * sizeof(T) + i->imm));
  }
  const u64 stack_after = c->gpr[rsp] + 2 * sizeof(T) + i->imm;
  commit_return(c, i, to);
  if (!to.with_stack) set_stack_pointer(c, stack_after);
  update_modes(c);
  NM_LEAVE;
}
Handler select_far_ret(Decoding& d) {
  d.ends_block = true;
  d.out.imm = d.is_immediate(0) ? d.immediate(0) & 0xffff : 0;
  return by_wide_width(d.zydis.operand_width, []<class T>() -> Handler { return op_far_ret<T>; });
}

void op_int(Core* c, const Insn* i) {
  raise_behind(c, i, static_cast<u8>(i->imm), EventKind::software);
}
void op_int1(Core* c, const Insn* i) { raise_behind(c, i, vector::db, EventKind::trap); }
void op_into(Core* c, const Insn* i) {
  if (c->flags & status::of) raise_behind(c, i, vector::of, EventKind::software);
  NM_NEXT;
}
Handler select_int(Decoding& d) {
  d.ends_block = true;
  d.out.imm = d.zydis.mnemonic == ZYDIS_MNEMONIC_INT3 ? u64{vector::bp} : d.immediate(0) & 0xff;
  return op_int;
}
Handler select_int1(Decoding& d) {
  d.ends_block = true;
  return op_int1;
}
Handler select_into(Decoding& d) {
  if (d.code64()) return nullptr;
  return op_into;
}

void op_syscall(Core* c, const Insn* i) {
  if (!(c->efer & efer::sce) || !c->code64()) raise(c, i, vector::ud);
  c->gpr[rcx] = next_address(c, i);
  c->gpr[11] = c->read_rflags() & ~rflags::rf;
  if (c->user()) {
    // What user code leaves in them may be undefined, and no program reads them behind SYSCALL.
    c->gpr[11] &= ~rflags::status_bits;
    set_status(c, 0);
    leave_user_mode(c);
    ++c->icount;
  }
  const auto selector = static_cast<u16>((c->star >> 32) & 0xfffc);
  load_flat_code(c, selector, 0, true);
  load_flat_stack(c, static_cast<u16>(selector + 8), 0);
  write_rflags(c, 0, (c->sfmask & ~rflags::fixed) | rflags::rf);
  c->rip = c->lstar;
  update_modes(c);
  NM_LEAVE;
}

template <bool k64>
void op_sysret(Core* c, const Insn* i) {
  if (!(c->efer & efer::sce) || !c->code64()) raise(c, i, vector::ud);
  require_cpl0(c, i);
  if (k64 && !is_canonical(c->gpr[rcx])) raise_error(c, i, vector::gp, 0);
  const auto base = static_cast<u16>(c->star >> 48);
  load_flat_code(c, static_cast<u16>((base + (k64 ? 16 : 0)) | 3), 3, k64);
  load_flat_stack(c, static_cast<u16>((base + 8) | 3), 3);
  enter_user_mode(c);
  write_rflags(c, c->gpr[11] & ~rflags::rf, rflags::status_bits | rflags::system_bits);
  c->rip = k64 ? c->gpr[rcx] : static_cast<u32>(c->gpr[rcx]);
  update_modes(c);
  NM_LEAVE;
}
Handler select_syscall(Decoding& d) {
  d.ends_block = true;
  return op_syscall;
}
Handler select_sysret(Decoding& d) {
  d.ends_block = true;
  return d.zydis.operand_width == 64 ? op_sysret<true> : op_sysret<false>;
}

Handler select_any_jmp(Decoding& d) {
  const Handler near = select_near_jmp(d);
  return near != nullptr ? near : select_far_branch<false>(d);
}
Handler select_any_call(Decoding& d) {
  const Handler near = select_near_call(d);
  return near != nullptr ? near : select_far_branch<true>(d);
}
Handler select_any_ret(Decoding& d) {
  const Handler near = select_near_ret(d);
  return near != nullptr ? near : select_far_ret(d);
}

}  // namespace

void register_far_control(SelectorTable& table) {
  table[ZYDIS_MNEMONIC_JMP] = select_any_jmp;
  table[ZYDIS_MNEMONIC_CALL] = select_any_call;
  table[ZYDIS_MNEMONIC_RET] = select_any_ret;
  for (const ZydisMnemonic m : {ZYDIS_MNEMONIC_IRET, ZYDIS_MNEMONIC_IRETD, ZYDIS_MNEMONIC_IRETQ}) {
    table[m] = select_iret;
  }
  table[ZYDIS_MNEMONIC_INT] = select_int;
  table[ZYDIS_MNEMONIC_INT3] = select_int;
  table[ZYDIS_MNEMONIC_INT1] = select_int1;
  table[ZYDIS_MNEMONIC_INTO] = select_into;
  table[ZYDIS_MNEMONIC_SYSCALL] = select_syscall;
  table[ZYDIS_MNEMONIC_SYSRET] = select_sysret;
}

}  // namespace node_mesh
