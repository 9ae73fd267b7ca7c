#include "kvm/engine_choice.h"

#include "kvm/host_probe.h"
#include "kvm/kvm_engine.h"

namespace node_mesh {
namespace {

constexpr std::string_view no_remedy =
    "; use --engine interp, or make /dev/kvm usable for this user";

const std::expected<KvmTraits, std::string>& host_traits() {
  static const auto traits = probe_kvm_host();
  return traits;
}

EngineChoice software(const std::string& why) {
  return {"interp", "the software CPU runs all: " + why};
}

}  // namespace

EngineChoice best_engine() {
  const auto& traits = host_traits();
  if (!traits) return software(traits.error());
  return {"kvm", "user mode runs directly: " + traits->text()};
}

std::expected<EngineChoice, std::string> give_engine(Machine& machine, std::string_view wanted) {
  if (wanted == "interp") return software("it was asked for");
  const auto cannot = [&](const std::string& why) -> std::expected<EngineChoice, std::string> {
    if (wanted == "auto") return software(why);
    return std::unexpected("Cannot use engine \"kvm\": " + why + std::string(no_remedy));
  };
  const auto& traits = host_traits();
  if (!traits) return cannot(traits.error());
  const auto made =
      machine.use_engine([&](GuestMemory& memory) { return KvmEngine::create(memory, *traits); });
  if (!made) return cannot(made.error());
  return best_engine();
}

}  // namespace node_mesh
