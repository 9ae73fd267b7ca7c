// The network card: one pair of queues. What the guest sends leaves as numbered Ethernet frames,
// with checksums filled in and large TCP segments cut up; what comes in are frames that the
// machine's driver brings as events. Frames are bytes from strangers on both sides.
#pragma once

#include <array>
#include <vector>

#include "devices/virtio/virtio_device.h"
#include "devices/virtio_net/network.h"

namespace node_mesh {

inline constexpr std::size_t ethernet_header_bytes = 14;
inline constexpr std::size_t ethernet_frame_bytes_min = ethernet_header_bytes;
inline constexpr std::size_t ethernet_frame_bytes_max = network_mtu_max + ethernet_header_bytes;

class VirtioNet final : public VirtioDevice {
 public:
  VirtioNet(const NetworkConfig& config, NetworkSink& sink);

  std::string_view name() const override { return "virtio_net"; }
  VirtioType type() const override { return VirtioType::network; }
  std::uint32_t pci_class() const override { return 0x02'0000; }  // Ethernet
  unsigned queue_count() const override { return 2; }
  std::uint64_t features() const override;
  void activate() override { receive_ready_ = false; }
  void reset() override { receive_ready_ = false; }
  void notified(unsigned queue, std::uint64_t now_ns) override;
  std::span<const std::byte> config() const override { return config_; }
  void save(StateWriter& out) const override;
  bool load(StateReader& in) override;

  // Frames sent since power on.
  std::uint64_t frames_sent() const { return frames_sent_; }
  // The guest has a driver for the card; without one there is nobody to send frames to.
  bool is_up() const { return port().driver_ready(); }
  // The guest has room for a frame of any size.
  bool receive_ready() const { return receive_ready_ && is_up(); }
  // Gives a frame to the guest. False: there was no room, it is lost.
  bool input(std::span<const std::byte> frame);

 private:
  bool negotiated(std::uint64_t feature) const { return (port().driver_features() & feature) != 0; }
  unsigned chains_for_largest() const;
  bool deliver(std::span<const std::byte> frame);
  void look_at_receive_queue();
  void send_all();
  void send(std::span<std::byte> packet);
  void send_segments(std::span<const std::byte> frame, std::uint16_t segment_bytes);
  void emit(std::span<const std::byte> frame);

  static constexpr unsigned receive_queue = 0, transmit_queue = 1;
  const std::uint16_t mtu_;
  NetworkSink& sink_;
  std::vector<std::byte> config_;
  std::vector<DescriptorChain> chains_;  // storage only, as are the next two
  std::vector<std::byte> packet_, segment_;
  std::uint64_t frames_sent_ = 0;
  bool receive_ready_ = false;
};

}  // namespace node_mesh
