// A virtual machine of the host's KVM: which host memory the guest sees where, and which of its
// pages were written. Owns the descriptors; the memory is somebody else's and must outlive it.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

#include "kvm/kvm_handle.h"

namespace node_mesh {

class KvmVm {
 public:
  template <class T>
  using Result = std::expected<T, std::string>;

  static Result<KvmVm> create();

  struct Region {
    std::uint32_t slot = 0;
    std::uint64_t gpa = 0;
    std::uint64_t bytes = 0;
    void* host = nullptr;
    bool log_dirty = false;
  };
  Result<void> add_region(const Region& region);
  // Takes a region away and puts it back: KVM forgets all that it derived from its content.
  Result<void> renew_region(const Region& region);

  // Calls `written(gfn)` for each page of the region that was written since this was last asked.
  template <class Callback>
  Result<void> take_dirty_pages(const Region& region, Callback written) {
    auto taken = take_dirty_bits(region);
    if (!taken) return taken;
    for (std::size_t word = 0; word < bits_.size(); ++word) {
      for (std::uint64_t left = bits_[word]; left != 0; left &= left - 1) {
        written((region.gpa >> 12) + word * 64 + static_cast<unsigned>(__builtin_ctzll(left)));
      }
    }
    return {};
  }

  const KvmHandle& device() const { return device_; }
  const KvmHandle& vm() const { return vm_; }
  int extension(unsigned long capability) const;

 private:
  KvmVm(KvmHandle device, KvmHandle vm) : device_(std::move(device)), vm_(std::move(vm)) {}
  Result<void> take_dirty_bits(const Region& region);

  KvmHandle device_, vm_;
  std::vector<std::uint64_t> bits_;
};

}  // namespace node_mesh
