#include "test/differential/expectation.h"

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "cpu/stub/undefined_flags.h"

namespace node_mesh::differential {
namespace {

constexpr std::uint64_t status = 0x8d5;
constexpr int stack_fault = 12, page_fault = 14, general_protection = 13, simd_exception = 19;
constexpr std::uint16_t c1 = 0x200, c2 = 0x400, inexact_and_underflow = 0x30;

unsigned gpr_of(ZydisRegister reg) {
  const ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
  return static_cast<unsigned>(whole - ZYDIS_REGISTER_RAX);
}

// The address of the memory operand, from the registers before the instruction.
std::uint64_t address_of(const Case& test, const Decoded& d, const ZydisDecodedOperand& operand) {
  const auto& memory = operand.mem;
  std::uint64_t address = static_cast<std::uint64_t>(memory.disp.value);
  if (memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP) {
    address += test.start.rip + d.instruction.length;
  } else if (memory.base != ZYDIS_REGISTER_NONE) {
    address += test.start.gpr[gpr_of(memory.base)];
  }
  if (memory.index != ZYDIS_REGISTER_NONE) {
    address += test.start.gpr[gpr_of(memory.index)] * memory.scale;
  }
  if (d.instruction.address_width == 32) address &= 0xffffffff;
  return memory.segment == ZYDIS_REGISTER_GS ? address + gs_base : address;
}

// A byte of the memory as the outcome shows it; null outside the writable pages.
std::uint8_t* byte_at(State& state, std::uint64_t address) {
  if (address - data_address < data_bytes) return &state.data[address - data_address];
  if (address - stack_address < stack_bytes) return &state.stack[address - stack_address];
  return nullptr;
}

void clear(State& state, std::uint64_t address, unsigned from, unsigned to) {
  for (unsigned i = from; i < to; ++i) {
    if (std::uint8_t* byte = byte_at(state, address + i)) *byte = 0;
  }
}

unsigned shift_count(const Case& test, const Decoded& d) {
  const unsigned mask = d.operands[0].size == 64 ? 63 : 31;
  for (unsigned i = d.instruction.operand_count; i-- > 1;) {
    const ZydisDecodedOperand& operand = d.operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
      return static_cast<unsigned>(operand.imm.value.u) & mask;
    }
    if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER && operand.reg.value == ZYDIS_REGISTER_CL) {
      return static_cast<unsigned>(test.start.gpr[1]) & mask;
    }
  }
  return 1;
}

void define_bit_scan(const Case& test, const Decoded& d, State& end) {
  end.rflags &= ~(status & ~flag_zf);
  if ((end.rflags & flag_zf) != 0) {
    const unsigned to = gpr_of(d.operands[0].reg.value);
    end.gpr[to] = test.start.gpr[to];
  }
}

// Flags and results that the architecture leaves undefined.
void define_integer(const Case& test, const Decoded& d, const State& actual, State& end) {
  const std::uint64_t before = test.start.rflags;
  const auto keep = [&](std::uint64_t mask) {
    end.rflags = (end.rflags & ~mask) | (before & mask);
  };
  switch (d.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_XOR:
      end.rflags &= ~flag_af;
      break;
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
      if (d.operands[0].size == 16 && shift_count(test, d) >= 16) {
        end.rflags = (end.rflags & ~flag_of) | (actual.rflags & flag_of);
      }
      [[fallthrough]];
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
      if (shift_count(test, d) != 0) end.rflags &= ~flag_af;
      break;
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_MUL:
      keep(flag_sf | flag_zf | flag_af | flag_pf);
      break;
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
      keep(status);
      break;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
      keep(status & ~flag_cf);
      break;
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_TZCNT:
      define_bit_scan(test, d, end);
      break;
    case ZYDIS_MNEMONIC_BSWAP:
      if (d.instruction.operand_width == 16) {
        const unsigned to = gpr_of(d.operands[0].reg.value);
        end.gpr[to] = test.start.gpr[to] & ~std::uint64_t{0xffff};
      }
      break;
    default:
      break;
  }
}

std::uint16_t get16(const std::uint8_t* from) {
  std::uint16_t value;
  std::memcpy(&value, from, 2);
  return value;
}

void put16(std::uint8_t* to, unsigned value) {
  const auto narrow = static_cast<std::uint16_t>(value);
  std::memcpy(to, &narrow, 2);
}

// The image as the guest keeps it: no pointers, no reserved bits.
void make_canonical(State& state) {
  std::memset(&state.x87[5], 0, 27);
  for (unsigned i = 0; i < 8; ++i)
    std::memset(&state.x87[32 + 16 * i + 10], 0, 6);
}

bool nearly_equal_extended(const std::uint8_t* a, const std::uint8_t* b) {
  std::uint64_t x, y;
  std::memcpy(&x, a, 8);
  std::memcpy(&y, b, 8);
  const int exponents = get16(a + 8) - get16(b + 8);
  if (exponents == 0) return x - y + 3 <= 6;
  // Around a power of two.
  if (exponents == 1) return x - (std::uint64_t{1} << 63) <= 3 && y + 4 < 4;
  if (exponents == -1) return y - (std::uint64_t{1} << 63) <= 3 && x + 4 < 4;
  return false;
}

// The sine of a large argument depends on how many bits of pi a vendor has.
bool far_argument(const Case& test) { return (get16(&test.start.x87[40]) & 0x7fff) >= 0x3ffe; }

bool is_trigonometric(ZydisMnemonic m) {
  return m == ZYDIS_MNEMONIC_FSIN || m == ZYDIS_MNEMONIC_FCOS || m == ZYDIS_MNEMONIC_FSINCOS ||
         m == ZYDIS_MNEMONIC_FPTAN;
}

// Transcendentals are computed in software: equal to the host's but for the last bits.
bool accept_transcendental(const Case& test, const Decoded& d, const State& actual,
                           State& expected) {
  if (is_trigonometric(d.instruction.mnemonic) && far_argument(test)) return false;
  const std::uint16_t mask = c1 | inexact_and_underflow;
  put16(&expected.x87[2],
        (get16(&expected.x87[2]) & ~unsigned{mask}) | (get16(&actual.x87[2]) & mask));
  for (unsigned i = 0; i < 2; ++i) {
    std::uint8_t* e = &expected.x87[32 + 16 * i];
    const std::uint8_t* a = &actual.x87[32 + 16 * i];
    if (nearly_equal_extended(e, a)) std::memcpy(e, a, 10);
  }
  // Unmasked underflow and inexact results pend or not with the last bit.
  return (get16(&test.start.x87[0]) & 0x3f) == 0x3f;
}

bool decimal_digits_only(const State& state, std::uint64_t address) {
  State copy = state;
  for (unsigned i = 0; i < 9; ++i) {
    const std::uint8_t* byte = byte_at(copy, address + i);
    if (byte == nullptr || (*byte & 15) > 9 || *byte >> 4 > 9) return false;
  }
  return true;
}

bool define_x87(const Case& test, const Decoded& d, const State& actual, State& end) {
  const ZydisDecodedOperand* memory = d.explicit_memory();
  const std::uint64_t address = memory == nullptr ? 0 : address_of(test, d, *memory);
  switch (d.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_F2XM1: {
      // Outside [-1, 1] undefined.
      const unsigned exponent = get16(&test.start.x87[40]) & 0x7fff;
      if (exponent >= 0x3fff && exponent != 0x7fff) return false;
      return accept_transcendental(test, d, actual, end);
    }
    case ZYDIS_MNEMONIC_FYL2XP1:
      if ((get16(&test.start.x87[40]) & 0x7fff) >= 0x3ffd) return false;
      return accept_transcendental(test, d, actual, end);
    case ZYDIS_MNEMONIC_FSIN:
    case ZYDIS_MNEMONIC_FCOS:
    case ZYDIS_MNEMONIC_FSINCOS:
    case ZYDIS_MNEMONIC_FPTAN:
    case ZYDIS_MNEMONIC_FPATAN:
    case ZYDIS_MNEMONIC_FYL2X:
      return accept_transcendental(test, d, actual, end);
    case ZYDIS_MNEMONIC_FPREM:
    case ZYDIS_MNEMONIC_FPREM1:
      return (get16(&end.x87[2]) & c2) == 0;
    case ZYDIS_MNEMONIC_FBLD:
      return decimal_digits_only(test.start, address);
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
      d.instruction.operand_width == 16 ? clear(end, address, 6, 14) : clear(end, address, 12, 26);
      break;
    case ZYDIS_MNEMONIC_FCOMI:
    case ZYDIS_MNEMONIC_FCOMIP:
    case ZYDIS_MNEMONIC_FUCOMI:
    case ZYDIS_MNEMONIC_FUCOMIP:
    case ZYDIS_MNEMONIC_FFREE:
    case ZYDIS_MNEMONIC_FFREEP:
      put16(&end.x87[2], get16(&end.x87[2]) & ~unsigned{c1});
      break;
    default:
      if (d.instruction.meta.category == ZYDIS_CATEGORY_FCMOV) {
        put16(&end.x87[2], get16(&end.x87[2]) & ~unsigned{c1});
      }
      break;
  }
  return true;
}

bool near_estimate(std::uint32_t a, std::uint32_t b) {
  if (a == b) return true;
  const auto x = std::bit_cast<float>(a), y = std::bit_cast<float>(b);
  // Results around the smallest normal number may count as zero.
  if (std::fabs(x) < 0x1.1p-126f && std::fabs(y) < 0x1.1p-126f) return true;
  return std::fabs(x - y) <= 0x1p-10f * std::fabs(x);
}

void accept_nan(const std::uint8_t* actual, std::uint8_t* expected) {
  std::uint32_t a, e;
  std::memcpy(&a, actual, 4);
  std::memcpy(&e, expected, 4);
  const auto upper = [](std::uint32_t value) { return (value & 0x7ff80000) >= 0x7ff80000; };
  const auto nan = [&](std::uint32_t value) {
    return (value & 0x7fffffff) > 0x7f800000 || upper(value);
  };
  if (nan(a) && nan(e)) std::memcpy(expected, actual, 4);
}

void define_simd(const Case& test, const Decoded& d, const State& actual, State& end) {
  const ZydisDecodedOperand* memory = d.explicit_memory();
  switch (d.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_RCPPS:
    case ZYDIS_MNEMONIC_RCPSS:
    case ZYDIS_MNEMONIC_RSQRTPS:
    case ZYDIS_MNEMONIC_RSQRTSS:
      for (unsigned i = 0; i < 64; ++i) {
        std::uint32_t a, e;
        std::memcpy(&a, actual.xmm[i / 4].data() + i % 4 * 4, 4);
        std::memcpy(&e, end.xmm[i / 4].data() + i % 4 * 4, 4);
        if (near_estimate(a, e)) std::memcpy(end.xmm[i / 4].data() + i % 4 * 4, &a, 4);
      }
      break;
    case ZYDIS_MNEMONIC_DPPS:
    case ZYDIS_MNEMONIC_DPPD:
      // Of several NaNs each vendor delivers the one it likes.
      for (unsigned i = 0; i < 64; ++i) {
        accept_nan(actual.xmm[i / 4].data() + i % 4 * 4, end.xmm[i / 4].data() + i % 4 * 4);
      }
      break;
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64: {
      const std::uint64_t address = address_of(test, d, *memory);
      clear(end, address, 6, 24);
      for (unsigned i = 0; i < 4; ++i) {  // MXCSR_MASK
        if (std::uint8_t* byte = byte_at(end, address + 28 + i)) *byte = i < 2 ? 0xff : 0;
      }
      break;
    }
    default:
      break;
  }
}

bool is_x87(const Decoded& d) {
  return d.instruction.meta.category == ZYDIS_CATEGORY_X87_ALU ||
         d.instruction.meta.category == ZYDIS_CATEGORY_FCMOV;
}

bool is_dot_product(const Decoded& d) {
  return d.instruction.mnemonic == ZYDIS_MNEMONIC_DPPS ||
         d.instruction.mnemonic == ZYDIS_MNEMONIC_DPPD;
}

bool is_memory_fault(int vector) {
  return vector == page_fault || vector == general_protection || vector == stack_fault;
}

// What vendors report differently about one and the same fault of a memory operand.
void define_fault(const Case& test, const Decoded& d, const Outcome& actual, Outcome& expected) {
  switch (d.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_CMPSD:
    case ZYDIS_MNEMONIC_CMPSQ:
      // Where both operands fault, the one that is read first.
      if (is_memory_fault(actual.vector)) {
        expected.vector = actual.vector;
        expected.error_code = actual.error_code;
        expected.fault_address = actual.fault_address;
      }
      break;
    case ZYDIS_MNEMONIC_CALL:
      // The target is checked before the return address is pushed, as the manuals have it.
      if (actual.vector == general_protection) {
        expected.vector = general_protection;
        expected.error_code = expected.fault_address = 0;
      }
      break;
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
      // Misaligned and not canonical: either may come first.
      if (expected.vector == stack_fault && actual.vector == general_protection) {
        expected.vector = general_protection;
      }
      [[fallthrough]];
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FRSTOR:
      // The first byte of the page, or the field that lies there.
      if ((expected.fault_address ^ actual.fault_address) < page) {
        expected.fault_address = actual.fault_address;
      }
      break;
    case ZYDIS_MNEMONIC_MASKMOVQ:
      // MMX mode entered before the fault or not at all.
      expected.end.x87 = test.start.x87;
      make_canonical(expected.end);
      break;
    default:
      break;
  }
}

void add_line(std::string& text, const char* what, unsigned index, std::uint64_t expected,
              std::uint64_t actual) {
  char line[160];
  std::snprintf(line, sizeof line, "    %s%u: expected %016llx, got %016llx\n", what, index,
                static_cast<unsigned long long>(expected), static_cast<unsigned long long>(actual));
  text += line;
}

template <class Bytes>
void compare_bytes(std::string& text, const char* what, const Bytes& expected,
                   const Bytes& actual) {
  if (std::memcmp(&expected, &actual, sizeof expected) == 0) return;
  const auto* e = reinterpret_cast<const std::uint8_t*>(&expected);
  const auto* a = reinterpret_cast<const std::uint8_t*>(&actual);
  unsigned shown = 0;
  for (unsigned i = 0; i + 8 <= sizeof expected && shown < 6; i += 8) {
    std::uint64_t x, y;
    std::memcpy(&x, e + i, 8);
    std::memcpy(&y, a + i, 8);
    if (x == y) continue;
    add_line(text, what, i, x, y);
    ++shown;
  }
}

// On the way out of user mode a flag that nobody will read may be 0 (cpu/canonical_flags.h); one
// that the instruction itself reads may not, and none may be set that was not.
void allow_dead_flags(const Decoded* instruction, const Outcome& actual, Outcome& expected) {
  const ZydisAccessedFlags* flags =
      instruction == nullptr ? nullptr : instruction->instruction.cpu_flags;
  const std::uint64_t read = flags == nullptr ? 0 : std::uint64_t{flags->tested};
  expected.end.rflags &= ~(status & ~read & ~actual.end.rflags);
}

}  // namespace

std::uint64_t operand_address(const Case& test, const Decoded& instruction) {
  const ZydisDecodedOperand* memory = instruction.explicit_memory();
  return memory == nullptr ? 0 : address_of(test, instruction, *memory);
}

bool expect(const Case& test, const Decoded* instruction, const Outcome& actual,
            Outcome& expected) {
  if (expected.vector == did_not_end) return false;
  make_canonical(expected.end);
  if (instruction != nullptr && is_memory_fault(expected.vector)) {
    define_fault(test, *instruction, actual, expected);
  }
  if (expected.vector == page_fault) {
    if (test.kernel) expected.error_code &= ~std::uint64_t{4};
    // The host's kernel hides whether an address of its own is mapped.
    if (expected.fault_address >> 47 != 0) {
      expected.error_code = (expected.error_code & ~std::uint64_t{1}) | (actual.error_code & 1);
    }
  } else {
    expected.fault_address = 0;
  }
  if (expected.vector == simd_exception) {
    // Whether a result that is not delivered would have been inexact.
    expected.end.mxcsr = (expected.end.mxcsr & ~0x20u) | (actual.end.mxcsr & 0x20u);
    if (instruction != nullptr && is_dot_product(*instruction)) {
      // Between its steps hardware stops at the first flag, ours at the end.
      expected.end.mxcsr = actual.end.mxcsr;
    }
    // Vendors differ in whether MMX mode was entered before the fault; ours changes nothing.
    if (instruction != nullptr &&
        instruction->instruction.meta.category == ZYDIS_CATEGORY_CONVERT) {
      expected.end.x87 = test.start.x87;
      make_canonical(expected.end);
    }
  }
  if (!test.kernel && expected.vector != no_vector) {
    allow_dead_flags(instruction, actual, expected);
  }
  if (instruction == nullptr || expected.vector != no_vector) return true;
  if (is_x87(*instruction)) return define_x87(test, *instruction, actual.end, expected.end);
  define_integer(test, *instruction, actual.end, expected.end);
  define_simd(test, *instruction, actual.end, expected.end);
  return true;
}

std::string differences(const Outcome& expected, const Outcome& actual) {
  std::string text;
  if (expected.vector != actual.vector) {
    char line[80];
    std::snprintf(line, sizeof line, "    vector: expected %d, got %d\n", expected.vector,
                  actual.vector);
    text += line;
  }
  const State &e = expected.end, &a = actual.end;
  for (unsigned i = 0; i < 16; ++i) {
    if (e.gpr[i] != a.gpr[i]) add_line(text, "gpr", i, e.gpr[i], a.gpr[i]);
  }
  if (e.rip != a.rip) add_line(text, "rip", 0, e.rip, a.rip);
  if (e.rflags != a.rflags) add_line(text, "rflags", 0, e.rflags, a.rflags);
  if (e.mxcsr != a.mxcsr) add_line(text, "mxcsr", 0, e.mxcsr, a.mxcsr);
  if (expected.error_code != actual.error_code) {
    add_line(text, "error code", 0, expected.error_code, actual.error_code);
  }
  if (expected.fault_address != actual.fault_address) {
    add_line(text, "cr2 ", 0, expected.fault_address, actual.fault_address);
  }
  compare_bytes(text, "xmm+", e.xmm, a.xmm);
  compare_bytes(text, "x87+", e.x87, a.x87);
  compare_bytes(text, "data+", e.data, a.data);
  compare_bytes(text, "stack+", e.stack, a.stack);
  return text;
}

std::string describe(const Case& test, const Decoded* instruction) {
  std::string text = "  ";
  char part[96];
  if (instruction != nullptr) text += std::string(instruction->mnemonic()) + ":";
  for (unsigned i = 0; i < test.length; ++i) {
    std::snprintf(part, sizeof part, " %02x", test.code[i]);
    text += part;
  }
  text += test.kernel ? "  (CPL 0)\n" : "  (CPL 3)\n";
  for (unsigned i = 0; i < 16; ++i) {
    std::snprintf(part, sizeof part, "%s%u=%016llx%s", i % 4 == 0 ? "    r" : " r", i,
                  static_cast<unsigned long long>(test.start.gpr[i]), i % 4 == 3 ? "\n" : "");
    text += part;
  }
  std::snprintf(part, sizeof part, "    rip=%llx rflags=%llx mxcsr=%x fcw=%x fsw=%x tags=%02x\n",
                static_cast<unsigned long long>(test.start.rip),
                static_cast<unsigned long long>(test.start.rflags), test.start.mxcsr,
                get16(&test.start.x87[0]), get16(&test.start.x87[2]), test.start.x87[4]);
  return text + part;
}

}  // namespace node_mesh::differential
