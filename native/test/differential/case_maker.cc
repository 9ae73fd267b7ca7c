#include "test/differential/case_maker.h"

#include <algorithm>
#include <cstring>

namespace node_mesh::differential {
namespace {

constexpr unsigned rcx = 1, rbx = 3, rsp = 4, rbp = 5, rsi = 6, rdi = 7;

std::uint64_t interesting(Random& random) {
  switch (random.below(6)) {
    case 0:
      return random.pick<std::uint64_t>({0, 1, 2, ~0ull, 0x7f, 0x80, 0xff, 0x7fff, 0x8000,
                                         0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff,
                                         0x8000000000000000});
    case 1:
      return random.below(64);
    case 2:
      return std::uint64_t{1} << random.below(64);
    case 3:
      return random.next() >> random.below(64);
    default:
      return random.next();
  }
}

std::uint32_t interesting_float(Random& random) {
  if (random.one_in(3)) {
    return random.pick({0u, 0x80000000u, 0x3f800000u, 0xbf800000u, 0x7f800000u, 0xff800000u,
                        0x7fc00000u, 0x7fa00000u, 0xffc12345u, 0x00000001u, 0x007fffffu,
                        0x00800000u, 0x7f7fffffu, 0x4f000000u, 0xcf000000u, 0x5f000000u});
  }
  const auto bits = static_cast<std::uint32_t>(random.next());
  // Exponents close to each other, so that sums and products are ordinary numbers.
  return random.one_in(2) ? bits : (bits & 0x807fffffu) | (0x78u + (bits >> 27 & 15u)) << 23;
}

std::uint64_t interesting_double(Random& random) {
  if (random.one_in(3)) {
    return random.pick<std::uint64_t>(
        {0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000,
         0xfff0000000000000, 0x7ff8000000000000, 0x7ff4000000000000, 1, 0x000fffffffffffff,
         0x0010000000000000, 0x7fefffffffffffff, 0x43e0000000000000, 0xc1e0000000000000,
         0x47efffffe0000000, 0x3690000000000000});
  }
  const std::uint64_t bits = random.next();
  return random.one_in(2) ? bits : (bits & 0x800fffffffffffff) | (0x3f8 + (bits >> 59 & 15)) << 52;
}

void fill_floats(std::uint8_t* to, std::size_t bytes, Random& random) {
  const bool doubles = random.one_in(2);
  for (std::size_t i = 0; i < bytes; i += 8) {
    std::uint64_t value = random.next();
    if (!random.one_in(8)) {
      value = doubles ? interesting_double(random)
                      : interesting_float(random) | std::uint64_t{interesting_float(random)} << 32;
    }
    std::memcpy(to + i, &value, 8);
  }
}

void fill_x87_register(std::uint8_t* to, Random& random) {
  std::uint64_t significand = random.next() | std::uint64_t{1} << 63;
  auto exponent = static_cast<std::uint16_t>(0x3ff0 + random.below(32));
  switch (random.below(12)) {
    case 0:
      significand = 0;
      exponent = 0;
      break;
    case 1:
      significand = std::uint64_t{1} << 63;
      exponent = 0x7fff;
      break;
    case 2:
      exponent = 0x7fff;
      break;
    case 3:
      exponent = 0;
      significand >>= 1;
      break;
    case 4:
      significand = std::uint64_t{1} << 63;
      exponent = 0x3fff;
      break;
    case 5:
      exponent = static_cast<std::uint16_t>(random.next() & 0x7fff);
      break;
    case 6:
      exponent = static_cast<std::uint16_t>(random.next() & 0x7fff);
      significand = random.next();
      break;
    case 7:
      significand <<= 40;
      significand |= std::uint64_t{1} << 63;
      break;
    default:
      break;
  }
  if (random.one_in(2)) exponent |= 0x8000;
  std::memset(to, 0, 16);
  std::memcpy(to, &significand, 8);
  std::memcpy(to + 8, &exponent, 2);
}

void fill_x87(State& state, bool quiet, Random& random) {
  state.x87.fill(0);
  std::uint16_t control = 0x37f;
  if (random.one_in(4)) control = static_cast<std::uint16_t>(0x7f | (random.next() & 0xf00));
  if (!quiet && random.one_in(8)) {
    control = static_cast<std::uint16_t>((control & ~0x3fu) | (random.next() & 0x3f));
  }
  auto status = static_cast<std::uint16_t>(random.next() & 0x7f00);
  if (random.one_in(4)) status = static_cast<std::uint16_t>(status | (random.next() & 0x7f));
  // Mostly nothing pends, or every case would be #MF.
  if (!random.one_in(16)) status = static_cast<std::uint16_t>(status & (0x7f40 | control));
  if ((status & ~control & 0x3f) != 0) status |= 0x8080;
  std::memcpy(state.x87.data(), &control, 2);
  std::memcpy(state.x87.data() + 2, &status, 2);
  auto valid = static_cast<std::uint8_t>(random.next());
  if (random.one_in(2)) {
    const unsigned top = (status >> 11) & 7u;
    const unsigned full = 0x7fu & ~(1u << 6);  // ST0..ST5
    valid = static_cast<std::uint8_t>(full << top | full >> (8 - top));
  }
  state.x87[4] = valid;
  for (unsigned i = 0; i < 8; ++i)
    fill_x87_register(state.x87.data() + 32 + 16 * i, random);
}

std::uint32_t random_mxcsr(bool quiet, Random& random) {
  std::uint32_t value = 0x1f80;
  if (random.one_in(4)) value |= static_cast<std::uint32_t>(random.next()) & 0xe040u;
  if (random.one_in(4)) value |= static_cast<std::uint32_t>(random.next()) & 0x3fu;
  if (!quiet && random.one_in(8)) {
    value &= ~0x1f80u;
    value |= static_cast<std::uint32_t>(random.next()) & 0x1f80u;
    value &= ~0x3fu;
  }
  return value;
}

void fill_state(State& state, bool quiet, Random& random) {
  for (std::uint64_t& reg : state.gpr)
    reg = interesting(random);
  state.gpr[rsp] = stack_address + stack_bytes / 2 + 8 * random.below(64);
  if (random.one_in(24)) state.gpr[rsp] += random.below(8);
  state.rflags = 0x202 | (random.next() & 0x8d5);
  fill_floats(state.xmm[0].data(), sizeof state.xmm, random);
  fill_x87(state, quiet, random);
  state.mxcsr = random_mxcsr(quiet, random);
  for (std::size_t i = 0; i < data_bytes; i += 8) {
    const std::uint64_t value = random.next();
    std::memcpy(&state.data[i], &value, 8);
  }
  fill_floats(state.data.data() + 0x800, 0x400, random);
  for (unsigned i = 0; i < 16; ++i)
    fill_x87_register(&state.data[0xc00 + 16 * i], random);
  // Stack words that are addresses of the code, for RET.
  for (std::size_t i = 0; i < stack_bytes; i += 8) {
    const std::uint64_t value =
        random.one_in(2) ? code_address + random.below(2 * page) : interesting(random);
    std::memcpy(&state.stack[i], &value, 8);
  }
  Random constants(1);
  for (std::uint8_t& byte : state.constants)
    byte = static_cast<std::uint8_t>(constants.next());
}

// Where the memory operand shall lie.
std::uint64_t choose_address(std::size_t bytes, bool must_align, Random& random) {
  const std::uint64_t inside = data_address + random.below(data_bytes - 1024);
  const std::uint64_t floats = data_address + 0x800 + random.below(0x3f0);
  if (must_align) return inside & ~std::uint64_t{15};
  switch (random.below(40)) {
    case 0:
      return hole_address + random.below(page);
    case 1:
      return hole_address - 1 - random.below(bytes == 0 ? 1 : bytes);
    case 2:
      return hole_address - bytes;
    case 3:
      return constant_address + random.below(page - 128);
    case 4:
      return data_address + page - random.below(16);
    case 5:
      return data_address - 1 - random.below(bytes == 0 ? 1 : bytes);
    case 6:
      return 0x8000000000000000 | random.next() >> 8;
    case 7:
    case 8:
    case 9:
      return inside;
    case 10:
    case 11:
    case 12:
      return floats;
    case 13:
    case 14:
      return (data_address + 0xc00 + random.below(16) * 16);
    default:
      return (random.one_in(2) ? inside : floats) & ~std::uint64_t{15};
  }
}

// A 32-bit address must not be cut off to one that the sandbox may have mapped.
std::uint64_t reachable(const Decoded& d, std::uint64_t target) {
  const bool narrow = d.instruction.address_width == 32 && target >> 32 != 0;
  return narrow ? hole_address + target % page : target;
}

unsigned number_of(ZydisRegister reg) {
  const ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
  return static_cast<unsigned>(whole - ZYDIS_REGISTER_RAX);
}

bool bit_offset_moves(const Decoded& d) {
  switch (d.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
      return d.explicit_memory() != nullptr && d.operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
    default:
      return false;
  }
}

// Sets the registers (or the displacement) that make the operand's address.
void aim(Decoded& d, Case& test, Random& random) {
  const ZydisDecodedOperand* operand = d.explicit_memory();
  if (operand == nullptr) return;
  const bool locked = (d.instruction.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0 ||
                      d.instruction.mnemonic == ZYDIS_MNEMONIC_XCHG;
  const bool shifted = bit_offset_moves(d);
  if (shifted) {
    // Within the data, in both directions.
    test.start.gpr[number_of(d.operands[1].reg.value)] = random.below(4096) - 2048;
  }
  std::uint64_t target = choose_address(operand->size / 8, locked || shifted, random);
  if (shifted) target = data_address + page + random.below(16) * 8;
  target = reachable(d, target);
  auto& gpr = test.start.gpr;
  const auto& memory = operand->mem;
  std::uint64_t rest = target - static_cast<std::uint64_t>(memory.disp.value);
  if (memory.segment == ZYDIS_REGISTER_GS) rest -= gs_base;
  if (memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP ||
      (memory.base == ZYDIS_REGISTER_NONE && memory.index == ZYDIS_REGISTER_NONE)) {
    // Only the displacement can move; aim inside the pages that exist.
    std::uint64_t place = data_address + random.below(data_bytes - 1024) / 16 * 16;
    if (memory.segment == ZYDIS_REGISTER_GS) place -= gs_base;
    if (memory.base != ZYDIS_REGISTER_NONE) place -= test.start.rip + d.instruction.length;
    std::memcpy(d.bytes.data() + d.instruction.raw.disp.offset, &place,
                d.instruction.raw.disp.size / 8);
    return;
  }
  const bool narrow = d.instruction.address_width == 32;
  const std::uint64_t garbage = narrow ? random.next() << 32 : 0;
  const auto put = [&](unsigned number, std::uint64_t value) {
    gpr[number] = narrow ? (value & 0xffffffff) | garbage : value;
  };
  if (memory.index == ZYDIS_REGISTER_NONE) {
    put(number_of(memory.base), rest);
    return;
  }
  const unsigned index = number_of(memory.index);
  if (memory.base == ZYDIS_REGISTER_NONE) {
    put(index, rest / memory.scale);
  } else if (number_of(memory.base) == index) {
    put(index, rest / (1u + memory.scale));
  } else {
    if (!shifted || index != number_of(d.operands[1].reg.value)) {
      put(index, random.below(256) - 128);
    }
    put(number_of(memory.base),
        rest - (narrow ? gpr[index] & 0xffffffff : gpr[index]) * memory.scale);
  }
}

void aim_hidden(const Decoded& d, Case& test, Random& random) {
  auto& gpr = test.start.gpr;
  if (d.instruction.meta.category == ZYDIS_CATEGORY_STRINGOP) {
    gpr[rsi] = reachable(d, choose_address(8, false, random));
    gpr[rdi] = reachable(d, choose_address(8, false, random));
    if (random.one_in(3)) gpr[rdi] = gpr[rsi] + random.below(32) - 16;
    gpr[rcx] = random.one_in(8) ? random.below(9000) : random.below(70);
    if (random.one_in(4)) test.start.rflags |= 0x400;
    if (random.one_in(2)) {  // something for SCAS and CMPS to find
      std::memset(test.start.data.data(), static_cast<int>(gpr[0]), data_bytes / 2);
    }
  }
  if (d.instruction.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
      d.instruction.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ) {
    gpr[rdi] = reachable(d, choose_address(16, true, random));
  }
  if (d.instruction.mnemonic == ZYDIS_MNEMONIC_XLAT) gpr[rbx] = data_address + random.below(4096);
  if (d.instruction.mnemonic == ZYDIS_MNEMONIC_ENTER ||
      d.instruction.mnemonic == ZYDIS_MNEMONIC_LEAVE) {
    gpr[rbp] = stack_address + stack_bytes / 2 + 8 * random.below(100);
  }
  if (d.instruction.mnemonic == ZYDIS_MNEMONIC_POPF ||
      d.instruction.mnemonic == ZYDIS_MNEMONIC_POPFQ) {
    // Nothing that would trap in the sandbox itself: no TF, NT, AC, VM; and no ID, which the
    // host's kernel does not restore.
    for (std::size_t i = 0; i < stack_bytes; i += 8) {
      std::uint64_t value;
      std::memcpy(&value, &test.start.stack[i], 8);
      value &= 0xed5;
      std::memcpy(&test.start.stack[i], &value, 8);
    }
    test.start.gpr[rsp] &= ~std::uint64_t{7};
  }
}

// MXCSR and FXSAVE images in memory must be loadable.
void make_loadable(const Decoded& d, Case& test, Random& random) {
  const ZydisMnemonic m = d.instruction.mnemonic;
  if (m == ZYDIS_MNEMONIC_LDMXCSR && !random.one_in(8)) {
    for (std::size_t i = 0; i < data_bytes; i += 4) {
      const std::uint32_t value = random_mxcsr(false, random);
      std::memcpy(&test.start.data[i], &value, 4);
    }
  }
  if (m == ZYDIS_MNEMONIC_FXRSTOR || m == ZYDIS_MNEMONIC_FXRSTOR64) {
    for (std::size_t i = 8; i < data_bytes; i += 16) {
      const std::uint32_t value = random_mxcsr(false, random);
      std::memcpy(&test.start.data[i], &value, 4);
    }
  }
}

}  // namespace

Decoded make_case(const InstructionSource& source, Group group, Random& random, Case& test) {
  Decoded d = source.make(group, random);
  fill_state(test.start, false, random);
  test.kind = group == Group::branch ? CaseKind::branch : CaseKind::fall_through;
  test.kernel = random.one_in(4);
  test.start.rip = code_address + 64 + random.below(page);
  test.length = d.instruction.length;
  if (d.instruction.mnemonic == ZYDIS_MNEMONIC_CMPXCHG && random.one_in(2)) {
    test.start.gpr[0] = test.start.gpr[random.below(16)];
  }
  // Absent instructions fault before they have an address (whose index may be a vector).
  if (group != Group::absent) aim(d, test, random);
  aim_hidden(d, test, random);
  make_loadable(d, test, random);
  source.decode(std::span(d.bytes).first(d.instruction.length), d);
  std::ranges::copy(std::span(d.bytes).first(test.length), test.code.begin());
  test.native_code = test.code;
  if (d.instruction.mnemonic == ZYDIS_MNEMONIC_TZCNT ||
      d.instruction.mnemonic == ZYDIS_MNEMONIC_LZCNT) {
    for (unsigned i = 0; i < d.instruction.raw.prefix_count; ++i) {
      if (test.native_code[i] == 0xf3) test.native_code[i] = 0x3e;
    }
  }
  return d;
}

namespace {

class ProgramWriter {
 public:
  explicit ProgramWriter(Case& test) : test_(test) {}
  void put(std::initializer_list<unsigned> bytes) {
    for (const unsigned byte : bytes)
      test_.code[size_++] = static_cast<std::uint8_t>(byte);
  }
  void put(std::span<const std::uint8_t> bytes) {
    std::ranges::copy(bytes, test_.code.begin() + static_cast<std::ptrdiff_t>(size_));
    size_ += bytes.size();
  }
  std::size_t size() const { return size_; }
  void patch(std::size_t where, std::size_t target) {
    test_.code[where] = static_cast<std::uint8_t>(target - (where + 1));
  }
  bool nearly_full() const { return size_ > test_.code.size() - 256; }

 private:
  Case& test_;
  std::size_t size_ = 0;
};

void put_random_instruction(const InstructionSource& source, ProgramWriter& out, Random& random) {
  const Group group =
      random.pick({Group::integer, Group::integer, Group::integer, Group::sse, Group::mmx});
  const Decoded d = source.make_for_program(group, random);
  out.put(std::span(d.bytes).first(d.instruction.length));
  // What the instruction leaves undefined must not reach the comparison.
  if (d.instruction.cpu_flags != nullptr && d.instruction.cpu_flags->undefined != 0) {
    out.put({0x83, 0xc0, static_cast<unsigned>(random.below(256))});  // add eax, imm8
  }
}

void put_chunk(const InstructionSource& source, ProgramWriter& out, Random& random) {
  const bool loops = random.one_in(3);
  if (loops) out.put({0x41, 0xbf, 1 + static_cast<unsigned>(random.below(20)), 0, 0, 0});
  const std::size_t start = out.size();
  std::size_t skip = 0;
  if (random.one_in(2)) {
    out.put({0x70 | static_cast<unsigned>(random.below(16)), 0});  // Jcc over a part
    skip = out.size() - 1;
  }
  for (std::uint64_t i = 1 + random.below(5); i > 0; --i) {
    put_random_instruction(source, out, random);
    if (skip != 0 && random.one_in(3)) {
      out.patch(skip, out.size());
      skip = 0;
    }
  }
  if (skip != 0) out.patch(skip, out.size());
  if (random.one_in(4)) out.put({0x50, 0x59});  // push rax; pop rcx
  if (loops && out.size() - start < 100) {
    out.put({0x41, 0xff, 0xcf, 0x75, 0});  // dec r15d; jnz start
    out.patch(out.size() - 1, start);
  }
}

}  // namespace

void make_program(const InstructionSource& source, Random& random, Case& test) {
  fill_state(test.start, true, random);
  test.kind = CaseKind::program;
  test.kernel = random.one_in(4);
  test.start.rip = code_address + 64 + random.below(page - 64);
  test.start.gpr[rbx] = data_address;
  test.start.gpr[rsp] &= ~std::uint64_t{7};
  ProgramWriter out(test);
  for (std::uint64_t chunks = 1 + random.below(8); chunks > 0 && !out.nearly_full(); --chunks) {
    put_chunk(source, out, random);
  }
  test.length = static_cast<std::uint32_t>(out.size());
  test.native_code = test.code;
}

}  // namespace node_mesh::differential
