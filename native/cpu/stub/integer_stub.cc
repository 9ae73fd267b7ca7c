// Integer instructions whose flags or result are partly undefined: the native result with what is
// undefined replaced by our definition (undefined_flags.h).
#include <cstring>

#include "cpu/stub/stub_plan.h"
#include "cpu/stub/undefined_flags.h"

namespace node_mesh {
namespace {

constexpr unsigned rcx = 1;

unsigned rm_number(const StubShape& shape) { return shape.rm | (shape.rex_b ? 8u : 0u); }
unsigned reg_number(const StubShape& shape) { return shape.reg | (shape.rex_r ? 8u : 0u); }

// The ModRM.rm operand, zero-extended.
std::uint64_t rm_value(const StubPlan& plan, const StubOperands& operands) {
  const unsigned width = plan.operand_bits;
  std::uint64_t value = 0;
  if (plan.shape.memory_form) {
    std::memcpy(&value, operands.memory, width / 8);
    return value;
  }
  unsigned number = rm_number(plan.shape);
  unsigned offset = 0;
  if (width == 8 && !plan.shape.has_rex && number >= 4) {
    number -= 4;  // AH CH DH BH
    offset = 8;
  }
  value = operands.gpr[number] >> offset;
  return width == 64 ? value : value & ((std::uint64_t{1} << width) - 1);
}

unsigned shift_count(const StubPlan& plan, const StubOperands& operands) {
  const unsigned mask = plan.operand_bits == 64 ? 63 : 31;
  if (plan.shape.immediate_bytes != 0) return plan.shape.immediate[0] & mask;
  const bool by_one =
      plan.shape.map == 0 && (plan.shape.opcode == 0xd0 || plan.shape.opcode == 0xd1);
  return by_one ? 1u : static_cast<unsigned>(operands.gpr[rcx]) & mask;
}

bool is_left(ZydisMnemonic mnemonic) {
  return mnemonic == ZYDIS_MNEMONIC_SHL || mnemonic == ZYDIS_MNEMONIC_ROL ||
         mnemonic == ZYDIS_MNEMONIC_RCL || mnemonic == ZYDIS_MNEMONIC_SHLD;
}

bool is_rotate(ZydisMnemonic mnemonic) {
  return mnemonic == ZYDIS_MNEMONIC_ROL || mnemonic == ZYDIS_MNEMONIC_ROR ||
         mnemonic == ZYDIS_MNEMONIC_RCL || mnemonic == ZYDIS_MNEMONIC_RCR;
}

void define_shift_flags(const StubPlan& plan, std::uint64_t result, std::uint64_t& rflags) {
  if (!is_rotate(plan.mnemonic)) rflags &= ~flag_af;
  rflags &= ~flag_of;
  rflags |= is_left(plan.mnemonic) ? overflow_of_left_shift(result, plan.operand_bits, rflags)
                                   : overflow_of_right_shift(result, plan.operand_bits);
}

// SHLD and SHRD of 16 bits by 17 to 31.
std::uint64_t wide_double_shift(bool left, std::uint64_t from, unsigned count) {
  const std::uint64_t twice = from << 16 | from;
  return (left ? twice >> (32 - count) : twice >> (count - 16)) & 0xffffu;
}

std::uint64_t result_flags_16(std::uint64_t result) {
  std::uint64_t flags = result == 0 ? flag_zf : 0;
  if ((result & 0x8000u) != 0) flags |= flag_sf;
  if (__builtin_parityll(result & 0xffu) == 0) flags |= flag_pf;
  return flags;
}

void put_rm_16(const StubPlan& plan, const StubOperands& operands, std::uint64_t value) {
  if (plan.shape.memory_form) {
    std::memcpy(operands.memory, &value, 2);
  } else {
    std::uint64_t& reg = operands.gpr[rm_number(plan.shape)];
    reg = (reg & ~std::uint64_t{0xffff}) | value;
  }
}

}  // namespace

StubResult run_logic(const Stub& stub, const StubOperands& operands) {
  stub.code(stub, operands);
  *operands.rflags &= ~flag_af;
  return StubResult::ok;
}

StubResult run_shift(const Stub& stub, const StubOperands& operands) {
  const StubPlan& plan = plan_of(stub);
  const unsigned count = shift_count(plan, operands);
  stub.code(stub, operands);
  if (count == 0) return StubResult::ok;
  // Through a narrow operand the carry rotates by less than the count says.
  const bool through_carry =
      plan.mnemonic == ZYDIS_MNEMONIC_RCL || plan.mnemonic == ZYDIS_MNEMONIC_RCR;
  if (through_carry && count % (plan.operand_bits + 1) == 0) {
    const std::uint64_t value = rm_value(plan, operands);
    define_shift_flags(plan, value, *operands.rflags);
    return StubResult::ok;
  }
  const bool shift = !is_rotate(plan.mnemonic) && plan.mnemonic != ZYDIS_MNEMONIC_SAR;
  if (shift && count > plan.operand_bits) *operands.rflags &= ~flag_cf;
  define_shift_flags(plan, rm_value(plan, operands), *operands.rflags);
  return StubResult::ok;
}

StubResult run_double_shift(const Stub& stub, const StubOperands& operands) {
  const StubPlan& plan = plan_of(stub);
  const unsigned count = shift_count(plan, operands);
  if (plan.operand_bits != 16 || count <= 16) {
    stub.code(stub, operands);
    if (count != 0) define_shift_flags(plan, rm_value(plan, operands), *operands.rflags);
    return StubResult::ok;
  }
  const std::uint64_t from = operands.gpr[reg_number(plan.shape)] & 0xffffu;
  const std::uint64_t result = wide_double_shift(plan.mnemonic == ZYDIS_MNEMONIC_SHLD, from, count);
  put_rm_16(plan, operands, result);
  *operands.rflags = (*operands.rflags & ~status_flags) | result_flags_16(result);
  define_shift_flags(plan, result, *operands.rflags);
  return StubResult::ok;
}

StubResult run_bit_scan(const Stub& stub, const StubOperands& operands) {
  std::uint64_t& destination = operands.gpr[reg_number(plan_of(stub).shape)];
  const std::uint64_t old = destination;
  stub.code(stub, operands);
  *operands.rflags &= ~(status_flags & ~flag_zf);
  if ((*operands.rflags & flag_zf) != 0) destination = old;
  return StubResult::ok;
}

}  // namespace node_mesh
