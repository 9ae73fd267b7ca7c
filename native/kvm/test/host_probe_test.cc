// What the probe finds on this host, and what it says when KVM fails it.
#include "kvm/host_probe.h"

#include "kvm/kvm_handle.h"
#include "kvm/test/kvm_available.h"

namespace node_mesh {

TEST_CASE("the probe finds a KVM that runs user code") {
  const auto traits = kvm_or_skip();
  if (!traits) return;
  MESSAGE(traits->text());
  CHECK(traits->round_trip_ns > 100);
  CHECK(traits->round_trip_ns < 1'000'000'000);
}

TEST_CASE("each request that fails makes the probe fail with a reason") {
  if (!kvm_or_skip()) return;
  int count = 0;
  for (;; ++count) {
    KvmHandle::fail_after(count);
    const auto traits = probe_kvm_host();
    const bool injected = KvmHandle::failure_was_injected();
    KvmHandle::fail_after(-1);
    if (!injected) {
      CHECK(traits.has_value());
      break;
    }
    // KVM_CHECK_EXTENSION that fails counts as an extension that is not there.
    if (traits.has_value()) continue;
    CHECK(traits.error().find(": Input/output error") != std::string::npos);
  }
  CHECK(count > 10);
}

}  // namespace node_mesh
