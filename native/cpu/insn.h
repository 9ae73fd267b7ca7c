// The decoded form of one guest instruction and of a block of them, shared by the interpreter and
// by anything that later translates blocks. An instruction is half a cache line: its handler and
// its operands as byte offsets into `Core`. Handlers are threaded: each ends by jumping to the next
// instruction's handler.
#pragma once

#include "cpu/types.h"

namespace node_mesh {

struct Core;
struct Insn;
struct Block;
struct Stub;

using Handler = void (*)(Core*, const Insn*);

// Bits of Insn::extra.
inline constexpr u16 insn_stack_segment = 1;  // the memory operand is in SS: #SS instead of #GP
inline constexpr u16 insn_address16 = 2;      // 16-bit effective address (compatibility mode)
inline constexpr u16 insn_repeat = 4;         // REP or REPE
inline constexpr u16 insn_repeat_not = 8;     // REPNE
inline constexpr u16 insn_aligned = 16;       // the memory operand must be aligned to its size
inline constexpr u16 insn_is_x87 = 32;
inline constexpr u16 insn_is_mmx = 64;
inline constexpr u16 insn_address32 = 128;  // address size of implicit operands is 32 bits

struct alignas(32) Insn {
  Handler fn = nullptr;
  union {
    u64 imm = 0;
    const Stub* stub;
    mutable Block* link;  // the block that a taken branch inside the page leads to, once known
  };
  s32 disp = 0;
  u8 reg = 0;   // first register operand (or the only one)
  u8 src = 0;   // second register operand
  u8 base = 0;  // memory operand: offsets of base, index and segment base
  u8 index = 0;
  u8 seg = 0;
  u8 scale = 0;  // shift count of the index
  u8 left = 0;   // instructions of the block from this one to its end, this one included
  u8 length = 0;
  u16 offset = 0;  // of the instruction inside its page
  u16 extra = 0;
};
static_assert(sizeof(Insn) == 32);

// How code bytes are read: part of a block's key.
enum class CodeMode : u8 { code64 = 0, code32 = 1, code16 = 2 };
inline constexpr u8 block_single = 4;  // added to the mode: a block of exactly one instruction

// A run of instructions in one physical page. Conditional branches may lie inside of it; taken,
// they leave it. `count` is the number of guest instructions. A dead block's first handler leads
// out.
struct alignas(64) Block {
  u16 count = 0;
  u16 offset = 0;
  u8 mode = 0;
  bool dead = false;
  u16 slots = 0;  // decoded instructions that follow, with the end marker
  u64 pa = 0;
  u64 second_gfn = 0;  // for one instruction that crosses into another page; 0: it does not
  Block* hash_next = nullptr;
  Insn insns[1];  // really `slots` of them
};

}  // namespace node_mesh
