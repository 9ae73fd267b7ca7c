// x87 instructions that move control words and whole states. In software, because the images of the
// host hold addresses of our own code; natively where the state is in the host's FPU and no such
// address can leak.
#include <cstring>

#include "cpu/stub/stub_plan.h"
#include "cpu/stub/x87_state.h"

namespace node_mesh {
namespace {

constexpr std::size_t environment_bytes_32 = 28, environment_bytes_16 = 14;
constexpr std::size_t register_bytes = 10;
constexpr unsigned tag_valid = 0, tag_zero = 1, tag_special = 2, tag_empty = 3;

std::uint16_t read16(const void* from) {
  std::uint16_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

void write16(void* to, std::uint16_t value) { std::memcpy(to, &value, sizeof value); }

unsigned tag_of(const X87Register& reg) {
  const unsigned exponent = reg.exponent & 0x7fffu;
  if (exponent == 0 && reg.significand == 0) return tag_zero;
  const bool normal = exponent != 0 && exponent != 0x7fff && reg.significand >> 63 != 0;
  return normal ? tag_valid : tag_special;
}

std::uint16_t full_tag_word(const X87Image& image) {
  unsigned tags = 0;
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned physical = (image.top() + i) & 7u;
    tags |= (image.is_empty(i) ? tag_empty : tag_of(image.st[i])) << (2 * physical);
  }
  return static_cast<std::uint16_t>(tags);
}

std::size_t environment_bytes(const Stub& stub) {
  const bool small = stub.memory_bytes == environment_bytes_16 ||
                     stub.memory_bytes == environment_bytes_16 + 8 * register_bytes;
  return small ? environment_bytes_16 : environment_bytes_32;
}

// The pointers read as zero; the upper halves of 16-bit fields as ones.
void write_environment(const X87Image& image, std::byte* to, std::size_t bytes) {
  std::memset(to, 0, bytes);
  const std::size_t step = bytes == environment_bytes_32 ? 4 : 2;
  if (step == 4) {
    for (const std::size_t upper : {2, 6, 10, 26})
      write16(to + upper, 0xffff);
  }
  write16(to, image.control);
  write16(to + step, image.status);
  write16(to + 2 * step, full_tag_word(image));
}

void read_environment(X87Image& image, const std::byte* from, std::size_t bytes) {
  const std::size_t step = bytes == environment_bytes_32 ? 4 : 2;
  image.control = read16(from);
  const std::uint16_t status = read16(from + step);
  x87_move_top(image, (status >> 11) & 7u);
  image.status = status;
  const unsigned tags = read16(from + 2 * step);
  image.valid = 0;
  for (unsigned i = 0; i < 8; ++i) {
    if (((tags >> (2 * i)) & 3u) != tag_empty) {
      image.valid = static_cast<std::uint8_t>(image.valid | 1u << i);
    }
  }
}

StubResult run_load_control(const Stub& stub, const StubOperands& operands) {
  FpuState& fpu = *operands.fpu;
  const std::uint16_t control = read16(operands.memory);
  if (x87_resident == &fpu && (control & x87_exception_flags) == x87_exception_flags) {
    stub.code(stub, operands);
    return StubResult::ok;
  }
  X87Image image = x87_image(fpu);
  if (image.exception_pending()) return StubResult::x87_exception;
  image.control = control;
  x87_set_image(fpu, image);
  return StubResult::ok;
}

StubResult run_store_control(const Stub& stub, const StubOperands& operands) {
  if (x87_resident == operands.fpu) return stub.code(stub, operands);
  write16(operands.memory, x87_image(*operands.fpu).control);
  return StubResult::ok;
}

StubResult run_store_status(const Stub& stub, const StubOperands& operands) {
  if (x87_resident == operands.fpu) return stub.code(stub, operands);
  const std::uint16_t status = x87_image(*operands.fpu).status;
  if (stub.writes_memory) {
    write16(operands.memory, status);
  } else {
    operands.gpr[0] = (operands.gpr[0] & ~std::uint64_t{0xffff}) | status;
  }
  return StubResult::ok;
}

StubResult run_clear_exceptions(const Stub& stub, const StubOperands& operands) {
  if (x87_resident == operands.fpu) return stub.code(stub, operands);
  X87Image image = x87_image(*operands.fpu);
  image.status &= 0x7f00;
  x87_set_image(*operands.fpu, image);
  return StubResult::ok;
}

StubResult run_initialise(const Stub& stub, const StubOperands& operands) {
  if (x87_resident == operands.fpu) return stub.code(stub, operands);
  X87Image image = x87_image(*operands.fpu);
  x87_initialise(image);
  x87_set_image(*operands.fpu, image);
  return StubResult::ok;
}

StubResult run_store_environment(const Stub& stub, const StubOperands& operands) {
  X87Image image = x87_image(*operands.fpu);
  write_environment(image, static_cast<std::byte*>(operands.memory), environment_bytes(stub));
  image.control |= x87_exception_flags;
  x87_set_image(*operands.fpu, image);
  return StubResult::ok;
}

StubResult run_load_environment(const Stub& stub, const StubOperands& operands) {
  X87Image image = x87_image(*operands.fpu);
  if (image.exception_pending()) return StubResult::x87_exception;
  const auto* from = static_cast<const std::byte*>(operands.memory);
  read_environment(image, from, environment_bytes(stub));
  x87_set_image(*operands.fpu, image);
  return StubResult::ok;
}

StubResult run_save(const Stub& stub, const StubOperands& operands) {
  X87Image image = x87_image(*operands.fpu);
  auto* to = static_cast<std::byte*>(operands.memory);
  write_environment(image, to, environment_bytes(stub));
  to += environment_bytes(stub);
  for (const X87Register& reg : image.st) {
    std::memcpy(to, &reg, register_bytes);
    to += register_bytes;
  }
  x87_initialise(image);
  x87_set_image(*operands.fpu, image);
  return StubResult::ok;
}

StubResult run_restore(const Stub& stub, const StubOperands& operands) {
  X87Image image = x87_image(*operands.fpu);
  if (image.exception_pending()) return StubResult::x87_exception;
  const auto* from = static_cast<const std::byte*>(operands.memory);
  read_environment(image, from, environment_bytes(stub));
  from += environment_bytes(stub);
  for (X87Register& reg : image.st) {
    std::memcpy(&reg, from, register_bytes);
    from += register_bytes;
  }
  x87_set_image(*operands.fpu, image);
  return StubResult::ok;
}

}  // namespace

Stub::Entry x87_control_entry(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_FLDCW:
      return run_load_control;
    case ZYDIS_MNEMONIC_FNSTCW:
      return run_store_control;
    case ZYDIS_MNEMONIC_FNSTSW:
      return run_store_status;
    case ZYDIS_MNEMONIC_FNCLEX:
      return run_clear_exceptions;
    case ZYDIS_MNEMONIC_FNINIT:
      return run_initialise;
    case ZYDIS_MNEMONIC_FNSTENV:
      return run_store_environment;
    case ZYDIS_MNEMONIC_FLDENV:
      return run_load_environment;
    case ZYDIS_MNEMONIC_FNSAVE:
      return run_save;
    case ZYDIS_MNEMONIC_FRSTOR:
      return run_restore;
    default:
      return nullptr;
  }
}

}  // namespace node_mesh
