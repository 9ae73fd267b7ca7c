// x87 and MMX instructions on the guest's FPU state: resident in the host's FPU while the guest
// masks all exceptions, loaded and stored around the instruction while it does not.
#include <cstring>

#include "cpu/stub/stub_plan.h"
#include "cpu/stub/x87_state.h"

namespace node_mesh {
namespace {

struct Call {
  const Stub& stub;
  const StubOperands& operands;
};

void run_code(void* context) {
  const Call& call = *static_cast<const Call*>(context);
  call.stub.code(call.stub, call.operands);
}

// A store that raises an unmasked exception leaves memory alone. Two runs over different fillings
// tell that from a store of the filling itself.
bool leaves_memory_alone(const Stub& stub, const StubOperands& operands, const X87Image& start) {
  const Call call{stub, operands};
  void* context = const_cast<Call*>(&call);
  for (const int filling : {0x55, 0xaa}) {
    std::memset(operands.memory, filling, stub.memory_bytes);
    X87Image image = start;
    x87_run_unmasked(image, run_code, context);
    const auto* bytes = static_cast<const unsigned char*>(operands.memory);
    for (unsigned i = 0; i < stub.memory_bytes; ++i) {
      if (bytes[i] != filling) return false;
    }
  }
  return true;
}

StubResult run_unmasked(const Stub& stub, const StubOperands& operands) {
  FpuState& fpu = *operands.fpu;
  X87Image image = x87_image(fpu);
  if (stub.waits && image.exception_pending()) return StubResult::x87_exception;
  // MASKMOVQ reads what it keeps: it always stores.
  const bool only_writes = stub.writes_memory && !stub.reads_memory;
  if (only_writes && leaves_memory_alone(stub, operands, image)) {
    const Call call{stub, operands};
    x87_run_unmasked(image, run_code, const_cast<Call*>(&call));
    x87_set_image(fpu, image);
    return StubResult::ok_not_stored;
  }
  const Call call{stub, operands};
  x87_run_unmasked(image, run_code, const_cast<Call*>(&call));
  x87_set_image(fpu, image);
  return StubResult::ok;
}

}  // namespace

StubResult run_x87(const Stub& stub, const StubOperands& operands) {
  FpuState& fpu = *operands.fpu;
  if (x87_resident != &fpu) [[unlikely]] {
    if (!x87_image(fpu).masks_all()) return run_unmasked(stub, operands);
    x87_load(fpu);
  }
  stub.code(stub, operands);
  return StubResult::ok;
}

}  // namespace node_mesh
