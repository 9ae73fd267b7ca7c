#include "kvm/kvm_vm.h"

#include <linux/kvm.h>

namespace node_mesh {
namespace {

constexpr int api_version = 12;  // the only one there ever was

}  // namespace

KvmVm::Result<KvmVm> KvmVm::create() {
  auto device = KvmHandle::open_device();
  if (!device) return std::unexpected(device.error());
  auto version = device->call("KVM_GET_API_VERSION", KVM_GET_API_VERSION);
  if (!version) return std::unexpected(version.error());
  if (*version != api_version) {
    return std::unexpected("KVM has the interface version " + std::to_string(*version) +
                           ", this program speaks " + std::to_string(api_version));
  }
  auto vm = device->make("KVM_CREATE_VM", KVM_CREATE_VM);
  if (!vm) return std::unexpected(vm.error());
  return KvmVm(std::move(*device), std::move(*vm));
}

KvmVm::Result<void> KvmVm::add_region(const Region& region) {
  kvm_userspace_memory_region wanted{};
  wanted.slot = region.slot;
  wanted.flags = region.log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0;
  wanted.guest_phys_addr = region.gpa;
  wanted.memory_size = region.bytes;
  wanted.userspace_addr = reinterpret_cast<std::uint64_t>(region.host);
  auto done = vm_.call("KVM_SET_USER_MEMORY_REGION", KVM_SET_USER_MEMORY_REGION, &wanted);
  if (!done) return std::unexpected(done.error());
  return {};
}

KvmVm::Result<void> KvmVm::renew_region(const Region& region) {
  Region none = region;
  none.bytes = 0;
  if (auto removed = add_region(none); !removed) return removed;
  return add_region(region);
}

KvmVm::Result<void> KvmVm::take_dirty_bits(const Region& region) {
  bits_.assign((region.bytes / 4096 + 63) / 64, 0);
  kvm_dirty_log log{};
  log.slot = region.slot;
  log.dirty_bitmap = bits_.data();
  auto done = vm_.call("KVM_GET_DIRTY_LOG", KVM_GET_DIRTY_LOG, &log);
  if (!done) return std::unexpected(done.error());
  return {};
}

int KvmVm::extension(unsigned long capability) const {
  return vm_.call("KVM_CHECK_EXTENSION", KVM_CHECK_EXTENSION, capability).value_or(0);
}

}  // namespace node_mesh
