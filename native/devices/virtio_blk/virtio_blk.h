// A disk on virtio. Every request is complete when the call that brought it returns: how long the
// host's disk takes is not the guest's affair, and so nothing of a disk is in the log. What the
// device reads comes from the copy's own disk, the same in all copies.
//
// Flush has nothing to do: what a request wrote is in the machine's state at once, and that state
// survives as the log does. When the host fails (a file cut off, no space), the device stops for
// good and says why; the machine's owner ends the copy before the guest can see any of it.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "devices/virtio/virtio_device.h"
#include "disk/layered_disk.h"

namespace node_mesh {

inline constexpr std::size_t request_bytes_max = 4 << 20;       // of one transfer; beyond: refused
inline constexpr std::uint32_t discard_sectors_max = 1u << 22;  // 2 GiB; beyond: refused
inline constexpr std::uint32_t discard_ranges_max = 64;

class VirtioBlk final : public VirtioDevice {
 public:
  // `failed` is told, once, why the host cannot serve the disk any more.
  using HostFailure = std::function<void(const std::string& why)>;
  VirtioBlk(unsigned index, LayeredDisk& disk, bool read_only, HostFailure failed);

  std::string_view name() const override { return name_; }
  VirtioType type() const override { return VirtioType::block; }
  std::uint32_t pci_class() const override { return 0x018000; }  // mass storage, other
  unsigned queue_count() const override { return 1; }
  std::uint64_t features() const override;
  void notified(unsigned queue, std::uint64_t now_ns) override;
  std::span<const std::byte> config() const override { return config_; }
  void config_write(unsigned offset, std::byte value) override;
  void reset() override;
  void save(StateWriter& out) const override;
  bool load(StateReader& in) override;

 private:
  enum class Status : std::uint8_t { ok = 0, io_error = 1, unsupported = 2 };
  struct Header {
    std::uint32_t kind = 0;
    std::uint64_t sector = 0;
  };

  // How many bytes of the writable part were filled; the last of them is the status.
  void serve(DescriptorChain& chain);
  Status execute(DescriptorChain& chain, std::uint64_t& filled);
  Status read(DescriptorChain& chain, std::uint64_t sector, std::uint64_t& filled);
  Status write(const DescriptorChain& chain, std::uint64_t sector);
  Status erase(const DescriptorChain& chain, bool zeroes);
  Status give_id(DescriptorChain& chain, std::uint64_t& filled);
  bool within(std::uint64_t sector, std::uint64_t bytes) const;
  bool done(const LayeredDisk::Outcome& outcome);

  std::string name_;
  LayeredDisk& disk_;
  const bool read_only_;
  HostFailure failed_;
  bool broken_ = false;
  std::vector<std::byte> config_;
  std::vector<std::byte> buffer_;
  DescriptorChain chain_;
};

}  // namespace node_mesh
