// Whether tests that need /dev/kvm can run here. NODE_MESH_REQUIRE_KVM=1 makes its absence a
// failure.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <optional>
#include <string_view>

#include "kvm/host_probe.h"

namespace node_mesh {

inline std::optional<KvmTraits> kvm_or_skip() {
  static const auto traits = probe_kvm_host();
  if (traits) return *traits;
  const char* required = std::getenv("NODE_MESH_REQUIRE_KVM");
  const std::string why = "no KVM here: " + traits.error();
  if (required != nullptr && std::string_view(required) == "1") {
    FAIL(why);
  } else {
    MESSAGE("skipped, " << why);
  }
  return std::nullopt;
}

}  // namespace node_mesh
