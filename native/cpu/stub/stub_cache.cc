#include <memory>
#include <string>
#include <unordered_map>

#include "cpu/stub/stub.h"
#include "cpu/stub/stub_arena.h"
#include "cpu/stub/stub_plan.h"

namespace node_mesh {
namespace {

// About 32 MiB of code and plans; then the owner starts afresh.
constexpr std::size_t stubs_max = 65536;

StubResult run_nothing(const Stub&, const StubOperands&) { return StubResult::ok; }

Stub::Entry x87_software_entry(ZydisMnemonic mnemonic) {
  if (const Stub::Entry entry = x87_control_entry(mnemonic)) return entry;
  if (const Stub::Entry entry = x87_remainder_entry(mnemonic)) return entry;
  return x87_transcendental_entry(mnemonic);
}

unsigned operand_bits(const ZydisDecodedInstruction& instruction,
                      std::span<const ZydisDecodedOperand> operands) {
  return operands.empty() ? instruction.operand_width : operands.front().size;
}

}  // namespace

bool stub_needs_code(StubKind kind) {
  switch (kind) {
    case StubKind::nothing:
    case StubKind::touch:
    case StubKind::estimate:
    case StubKind::dot_product:
    case StubKind::integer_pair:
      return false;
    default:
      return true;
  }
}

Stub::Entry stub_entry(const StubPlan& plan, Stub::Entry code) {
  switch (plan.policy.kind) {
    case StubKind::nothing:
    case StubKind::touch:
      return run_nothing;
    case StubKind::plain:
      return code;
    case StubKind::simd_float:
      return run_simd_float;
    case StubKind::x87:
      return run_x87;
    case StubKind::x87_simd_float:
      return run_x87_simd_float;
    case StubKind::logic:
      return run_logic;
    case StubKind::shift:
      return run_shift;
    case StubKind::double_shift:
      return run_double_shift;
    case StubKind::bit_scan:
      return run_bit_scan;
    case StubKind::estimate:
      return run_estimate;
    case StubKind::dot_product:
      return run_dot_product;
    case StubKind::integer_pair:
      return run_integer_pair;
    case StubKind::x87_software:
      return x87_software_entry(plan.mnemonic);
  }
  return nullptr;
}

class StubCache::Impl {
 public:
  const Stub* find_or_make(const ZydisDecodedInstruction& instruction,
                           std::span<const ZydisDecodedOperand> operands,
                           std::span<const std::uint8_t> bytes) {
    std::optional<StubShape> shape = stub_shape(instruction, operands, bytes);
    if (!shape) return nullptr;
    const std::string key = shape->key();
    if (const auto found = stubs_.find(key); found != stubs_.end()) return &found->second->stub;
    const std::optional<StubPolicy> policy = stub_policy(instruction, *shape);
    if (!policy) return nullptr;
    auto made = std::make_unique<Made>();
    made->plan = {*shape, *policy, instruction.mnemonic, operand_bits(instruction, operands)};
    finish(*made);
    if (made->stub.entry == nullptr) return nullptr;
    const Stub* stub = &made->stub;
    stubs_.emplace(key, std::move(made));
    return stub;
  }

  bool full() const { return stubs_.size() >= stubs_max; }

  void clear() {
    stubs_.clear();
    arena_.clear();
  }

 private:
  struct Made {
    Stub stub;
    StubPlan plan;
  };

  void finish(Made& made) {
    Stub& stub = made.stub;
    const StubPlan& plan = made.plan;
    stub.plan = &plan;
    stub.unit = plan.policy.unit;
    stub.waits = plan.policy.waits;
    stub.uses_x87 = plan.policy.kind != StubKind::nothing &&
                    (stub.unit == StubUnit::x87 || stub.unit == StubUnit::mmx ||
                     plan.policy.kind == StubKind::x87_simd_float);
    if (plan.policy.kind != StubKind::nothing) {
      stub.memory_bytes =
          plan.policy.kind == StubKind::touch ? std::uint8_t{1} : plan.shape.memory_bytes;
      stub.reads_memory = plan.shape.reads_memory;
      stub.writes_memory = plan.shape.writes_memory;
      stub.needs_alignment = plan.policy.needs_alignment;
    }
    if (stub_needs_code(plan.policy.kind)) {
      const void* code = arena_.add(emit_stub(plan.shape, plan.policy.emit));
      stub.code = reinterpret_cast<Stub::Entry>(reinterpret_cast<std::uintptr_t>(code));
    }
    stub.entry = stub_entry(plan, stub.code);
  }

  std::unordered_map<std::string, std::unique_ptr<Made>> stubs_;
  StubArena arena_;
};

StubCache::StubCache() : impl_(std::make_unique<Impl>()) {}
StubCache::~StubCache() = default;

const Stub* StubCache::find_or_make(const ZydisDecodedInstruction& instruction,
                                    std::span<const ZydisDecodedOperand> operands,
                                    std::span<const std::uint8_t> bytes) {
  return impl_->find_or_make(instruction, operands, bytes);
}

bool StubCache::full() const { return impl_->full(); }
void StubCache::clear() { impl_->clear(); }

}  // namespace node_mesh
