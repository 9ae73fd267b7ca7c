// What a machine's configuration says about its network card, and where the frames go that the
// guest sends.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace node_mesh {

inline constexpr std::uint16_t network_mtu_min = 68, network_mtu_max = 65'521;

struct NetworkConfig {
  std::array<std::uint8_t, 6> mac{};  // of one card: neither multicast nor all zero
  std::uint16_t mtu = 1500;           // 68..65,521
  friend bool operator==(const NetworkConfig&, const NetworkConfig&) = default;
};

// Frames that the guest sent; `number` counts all of them since power on, from 0.
class NetworkSink {
 public:
  virtual ~NetworkSink() = default;
  virtual void network_output(std::uint64_t number, std::span<const std::byte> frame) = 0;
};

}  // namespace node_mesh
