// The entropy device. It has no entropy of its own: it says how much the guest waits for, and gets
// it from the machine's driver, as an event like any other input. The guest waits until then.
#pragma once

#include "devices/virtio/virtio_device.h"

namespace node_mesh {

inline constexpr std::uint32_t entropy_bytes_max = 4096;  // of one request; the rest stays unfilled

class VirtioRng final : public VirtioDevice {
 public:
  std::string_view name() const override { return "virtio_rng"; }
  VirtioType type() const override { return VirtioType::entropy; }
  std::uint32_t pci_class() const override { return 0x10'0000; }  // encryption, network
  unsigned queue_count() const override { return 1; }

  void reset() override { wanted_bytes_ = 0; }
  void notified(unsigned queue, std::uint64_t now_ns) override;
  void save(StateWriter& out) const override { out.u32(wanted_bytes_); }
  bool load(StateReader& in) override;

  // How much the guest waits for; 0: for nothing.
  std::uint32_t wanted_bytes() const { return wanted_bytes_; }
  // Serves the guest's oldest request with as many of the bytes as it has room for.
  void input(std::span<const std::byte> bytes);

 private:
  void look();

  DescriptorChain chain_;  // storage only
  std::uint32_t wanted_bytes_ = 0;
};

}  // namespace node_mesh
