// What makes two machines the same machine: everything here is in the header of a log.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "devices/virtio_net/network.h"

namespace node_mesh {

inline constexpr std::uint64_t memory_bytes_min = 32ull << 20;
inline constexpr std::uint64_t memory_bytes_max = 64ull << 30;  // fits into the CPU model's 40 bits
inline constexpr std::size_t cmdline_bytes_max = 2047;          // what Linux keeps on x86

inline constexpr std::size_t machine_disks_max = 8;
inline constexpr std::uint64_t disk_sector_bytes = 512;
inline constexpr std::uint64_t machine_disk_bytes_max = 4ull << 40;

struct DiskConfig {
  std::array<std::uint8_t, 32> content{};  // of the image: see disk/content_hash.h
  std::uint64_t size_bytes = 0;  // whole sectors, up to 4 TiB; zeros follow a shorter image
  bool read_only = false;
  friend bool operator==(const DiskConfig&, const DiskConfig&) = default;
};

struct MachineConfig {
  std::string cpu_model = "mesh-v1";
  std::uint64_t memory_bytes = 256ull << 20;  // 32 MiB..64 GiB, multiple of 1 MiB
  std::string cmdline;                        // at most 2047 bytes, no NUL
  std::uint64_t start_realtime_ns = 0;        // what the RTC shows at guest_ns() == 0
  std::array<std::uint8_t, 32> rng_seed{};    // setup_data SETUP_RNG_SEED
  std::array<std::uint8_t, 32> kernel_sha256{};
  std::array<std::uint8_t, 32> initrd_sha256{};  // all zero: no initrd
  std::uint64_t initial_ns_per_step = 0;         // 32.32 fixed point; 0 = the model's default
  bool rng = false;                              // an entropy device
  std::optional<NetworkConfig> network;          // a network card
  std::vector<DiskConfig> disks;                 // at most machine_disks_max
};

// Errors are one clear line for the user.
std::expected<void, std::string> check_machine_config(const MachineConfig& config);

}  // namespace node_mesh
